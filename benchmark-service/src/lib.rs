//! The benchmark service: counts the batches of the queue, keeps their running statistics, and serves rankings.
//!
//! ```text
//! queue ─► consumer ── ledger + statistics, one transaction ──► database ─► projector ─► snapshot ─► api
//!             └─ acknowledges after the commit                                  (swapped as a whole)
//! ```
//!
//! [`Service::build`] binds the address; [`Service::run`] runs until the end of the [`Lifecycle`] it was given.
//! Nothing here knows a concrete database or broker: they come as ports in [`Dependencies`].
//!
//! [`Lifecycle`]: service_runtime::lifecycle::Lifecycle

mod api;
pub mod auth;
mod consumer;
mod housekeeping;
mod metrics;
mod problem;
mod projector;
mod service;
mod settings;
mod snapshot;

pub use auth::AccessPolicy;
pub use consumer::{Consumer, SubscriptionEnded};
pub use housekeeping::HousekeepingSettings;
pub use projector::{RankingsError, rankings_now};
pub use service::{BuildError, Dependencies, Service};
pub use settings::{ClientLimits, RateLimit, Settings, Timing};
pub use snapshot::{Selection, SourceFilter, Statistic, Window};
