use broker::LinkStatistics;
use prometheus::{Opts, Registry};
use service_runtime::scraped;

/// Registers what a link to the broker has been through: `llm_bench_broker_blocked_seconds_total` and
/// `llm_bench_broker_reconnects_total`, with the label `link`. An outbox registers that of the link for publishing; who
/// consumes adds `consuming`.
///
/// # Errors
/// The registry has this link already.
pub fn register_link(
    registry: &Registry,
    link: &'static str,
    read: impl Fn() -> LinkStatistics + Clone + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let opts = |name, help| Opts::new(name, help).const_label("link", link);
    let blocked = {
        let read = read.clone();
        move || read().blocked.as_secs_f64()
    };
    scraped::counter(
        registry,
        opts(
            "llm_bench_broker_blocked_seconds_total",
            "Time in which the broker accepted nothing over the link (memory or disk alarm)",
        ),
        blocked,
    )?;
    scraped::counter(
        registry,
        opts(
            "llm_bench_broker_reconnects_total",
            "Connections to the broker that replaced a lost one",
        ),
        move || read().reconnects as f64,
    )
}
