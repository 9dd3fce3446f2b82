//! The storage ports on PostgreSQL (15 or newer).
//!
//! | module | ports |
//! |---|---|
//! | `registry` | `Registry` |
//! | `batch_transaction` | the transaction behind `Outbox::record` and `Projection::apply`: batches, ledger, statistics |
//! | `outbox` | `Outbox` |
//! | `projection`, `changes`, `rebuild` | `Projection` |
//! | `reconciliation`, `recomputation`, `retention` | `Reconciliation` |
//! | `archive`, `dead_letter_log`, `api_keys`, `simulation_progress`, `maintenance` | the ports of these names |
//!
//! Every method is retried on transient faults ([`PostgresSettings::max_retries`]), except `ping`. SQL texts are
//! constants, so that each connection prepares each of them once.

mod advisory_locks;
mod api_keys;
mod archive;
mod batch_rows;
mod batch_transaction;
mod changes;
mod connection;
mod counted_batches;
mod dead_letter_log;
mod maintenance;
mod migrations;
mod outbox;
mod privileges;
mod projection;
mod rebuild;
mod recomputation;
mod reconciliation;
mod registry;
mod retention;
mod settings;
mod simulation_progress;
mod statistics_rows;

pub use connection::PostgresStorage;
pub use settings::{InvalidUrl, PostgresSettings, RebuildLimits};
