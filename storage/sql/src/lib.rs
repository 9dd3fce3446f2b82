//! What the SQL backends of the storage ports have in common: everything but the SQL.
//!
//! | module | what it does |
//! |---|---|
//! | [`admission`], [`counting`] | decide what is stored and what is counted, on a [`write_transaction`] of a backend |
//! | [`statistics_rows`] | folds batches into rows of the table `statistics` |
//! | [`recomputation`] | computes statistics rows once more from the [`counted_batches`] and compares: [`audit`] reports, [`rebuild`] writes |
//! | [`columns`] | reads rows of the tables into the types of the ports |
//! | [`retention`] | says which hours are old enough to be pruned |

pub mod admission;
pub mod audit;
pub mod columns;
pub mod counted_batches;
pub mod counting;
mod error;
pub mod rebuild;
pub mod recomputation;
pub mod retention;
pub mod statistics_rows;
pub mod write_transaction;

pub use error::SqlError;
