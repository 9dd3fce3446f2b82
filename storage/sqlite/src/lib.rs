//! The storage ports on SQLite: the embedded default.
//!
//! | module | ports |
//! |---|---|
//! | `registry` | `Registry` |
//! | `batch_transaction` | the transaction behind `Outbox::record` and `Projection::apply`: batches, ledger, statistics |
//! | `outbox` | `Outbox` |
//! | `projection`, `recomputation` | `Projection` |
//! | `reconciliation`, `recomputation`, `retention` | `Reconciliation` |
//! | `archive`, `dead_letter_log`, `api_keys`, `simulation_progress`, `maintenance` | the ports of these names |
//!
//! There is one writer at a time, in this process by a pool of one connection, among processes by `BEGIN IMMEDIATE`;
//! readers see the last commit and never wait (write-ahead log). The database's clock is the one given to
//! [`SqliteStorage::open`].

mod api_keys;
mod archive;
mod batch_rows;
mod batch_transaction;
mod connection;
mod counted_batches;
mod dead_letter_log;
mod maintenance;
mod migrations;
mod outbox;
mod projection;
mod recomputation;
mod reconciliation;
mod registry;
mod retention;
mod simulation_progress;
mod statistics_rows;
mod time_columns;

pub use connection::{Location, SqliteStorage};
