//! The storage ports on PostgreSQL (15 or newer).
//!
//! | module | ports |
//! |---|---|
//! | `registry` | `Registry` |
//! | `intake` | the transaction behind `Outbox::record` and `Projection::apply`: batches, ledger, statistics |
//! | `outbox` | `Outbox` |
//! | `projection`, `changes`, `rebuild` | `Projection` |
//! | `archive`, `api_keys`, `simulation_log`, `maintenance` | the ports of these names |
//!
//! Every method is retried on transient faults ([`PostgresSettings::max_retries`]), except `ping`. SQL texts are
//! constants, so that each connection prepares each of them once.

mod api_keys;
mod archive;
mod batch_rows;
mod changes;
mod connection;
mod fault;
mod intake;
mod maintenance;
mod outbox;
mod privileges;
mod projection;
mod rebuild;
mod registry;
mod settings;
mod simulation_log;

pub use connection::PostgresStorage;
pub use settings::{InvalidUrl, PostgresSettings};
