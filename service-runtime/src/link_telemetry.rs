//! Metrics of a link to the broker.

use std::time::Duration;

use prometheus::{Opts, Registry};

use crate::scraped;

/// Registers what a link to the broker has been through, as `llm_bench_broker_blocked_seconds_total` and
/// `llm_bench_broker_reconnects_total` with the label `link`: how long the broker accepted nothing over it, and how many
/// connections replaced a lost one. Both values only grow.
///
/// # Errors
/// The registry has this link already.
pub fn register_link(
    registry: &Registry,
    link: &'static str,
    blocked: impl Fn() -> Duration + Send + Sync + 'static,
    reconnects: impl Fn() -> u64 + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let opts = |name, help| Opts::new(name, help).const_label("link", link);
    scraped::counter(
        registry,
        opts(
            "llm_bench_broker_blocked_seconds_total",
            "Time in which the broker accepted nothing over the link (memory or disk alarm)",
        ),
        move || blocked().as_secs_f64(),
    )?;
    scraped::counter(
        registry,
        opts(
            "llm_bench_broker_reconnects_total",
            "Connections to the broker that replaced a lost one",
        ),
        move || reconnects() as f64,
    )
}
