//! The storage ports on PostgreSQL (15 or newer).
//!
//! | module | ports |
//! |---|---|
//! | `registry` | `Registry` |
//! | `intake` | the transaction behind `Outbox::record` and `Projection::apply`: batches, ledger, statistics |
//! | `outbox` | `Outbox` |
//! | `projection`, `changes`, `rebuild` | `Projection` |
//! | `reconciliation`, `audit`, `retention` | `Reconciliation` |
//! | `archive`, `dead_letter_log`, `api_keys`, `simulation_log`, `maintenance` | the ports of these names |
//!
//! Every method is retried on transient faults ([`PostgresSettings::max_retries`]), except `ping`. SQL texts are
//! constants, so that each connection prepares each of them once.

mod advisory_locks;
mod api_keys;
mod archive;
mod audit;
mod batch_rows;
mod changes;
mod connection;
mod dead_letter_log;
mod fault;
mod intake;
mod ledger_pages;
mod maintenance;
mod migrations;
mod outbox;
mod privileges;
mod projection;
mod rebuild;
mod reconciliation;
mod registry;
mod retention;
mod settings;
mod simulation_log;
mod statistics_rows;

pub use connection::PostgresStorage;
pub use settings::{InvalidUrl, PostgresSettings, RebuildLimits};
