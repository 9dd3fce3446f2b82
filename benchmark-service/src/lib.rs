//! The benchmark service: counts the batches of the queue, keeps their running statistics, and serves rankings.
//!
//! ```text
//! queue ─► consumer ── ledger + statistics, one transaction ──► database ─► projector ─► snapshot ─► api
//!             └─ acknowledges after the commit                                  (swapped as a whole)
//! ```
//!
//! [`Service::build`] binds the address; [`Service::start`] starts tasks that end with the [`Lifecycle`].
//! The crate knows no concrete database or broker: [`Dependencies`] holds them as ports.
//!
//! [`Lifecycle`]: service_runtime::lifecycle::Lifecycle

mod api;
pub mod auth;
mod choice;
mod consumer;
mod dependencies;
mod housekeeping;
mod problem;
mod projector;
mod queue_depth;
mod service;
mod settings;
mod snapshot;
mod telemetry;

pub use auth::{AccessPolicy, RateLimit};
pub use consumer::{Consumer, SubscriptionEnded};
pub use dependencies::Dependencies;
pub use housekeeping::HousekeepingSettings;
pub use projector::{RefreshError, UnreadableStatistics, current_snapshot};
pub use service::{BuildError, Service};
pub use settings::{ClientLimits, Settings, Timing};
pub use snapshot::{
    BodyFormat, RankingSelection, Rounding, Snapshot, SourceFilter, Statistic, Target, TimeWindow,
};
