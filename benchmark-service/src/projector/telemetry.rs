use std::sync::Arc;

use prometheus::{IntCounter, Opts, Registry, register_int_counter_with_registry};
use service_runtime::scraped;

use super::Rankings;

/// Registers the age and the staleness of the snapshot, read at each scrape. Returns the counter of failed refreshes.
pub(super) fn register(registry: &Registry, rankings: &Arc<Rankings>) -> prometheus::Result<IntCounter> {
    let confirmed = Arc::clone(rankings);
    scraped::gauge(
        registry,
        Opts::new(
            "llm_bench_snapshot_age_seconds",
            "Time since the rankings were last known to be what the database says; NaN before the first time.",
        ),
        move || confirmed.age().map_or(f64::NAN, |age| age.as_secs_f64()),
    )?;
    let served = Arc::clone(rankings);
    scraped::gauge(
        registry,
        Opts::new(
            "llm_bench_snapshot_stale",
            "1 while rankings are served that call themselves stale: the database or the consumer is away.",
        ),
        move || f64::from(u8::from(served.load().stale)),
    )?;
    register_int_counter_with_registry!(
        "llm_bench_snapshot_failures_total",
        "Refreshes of the rankings that failed.",
        registry
    )
}
