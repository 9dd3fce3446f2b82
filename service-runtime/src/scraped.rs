//! Metrics whose value is read at the moment of a scrape, such as ages and running times, which change without an event.

use prometheus::{
    Counter, Gauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Registers a gauge whose value `read` returns.
///
/// # Errors
/// The name or a label is invalid, or the registry has it already.
pub fn gauge(
    registry: &Registry,
    opts: Opts,
    read: impl Fn() -> f64 + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let desc = Gauge::with_opts(opts.clone())?
        .desc()
        .into_iter()
        .cloned()
        .collect();
    let collect = move || {
        let gauge = Gauge::with_opts(opts.clone()).ok()?;
        gauge.set(read());
        Some(gauge.collect())
    };
    registry.register(Box::new(Scraped { desc, collect }))
}

/// Registers a counter whose value `read` returns. The value must not be negative and must never decrease.
///
/// # Errors
/// The name or a label is invalid, or the registry has it already.
pub fn counter(
    registry: &Registry,
    opts: Opts,
    read: impl Fn() -> f64 + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let desc = Counter::with_opts(opts.clone())?
        .desc()
        .into_iter()
        .cloned()
        .collect();
    let collect = move || {
        // A new counter for each scrape, because scrapes may overlap and a counter cannot be set.
        let counter = Counter::with_opts(opts.clone()).ok()?;
        counter.inc_by(read());
        Some(counter.collect())
    };
    registry.register(Box::new(Scraped { desc, collect }))
}

struct Scraped<C> {
    desc: Vec<Desc>,
    collect: C,
}

impl<C: Fn() -> Option<Vec<MetricFamily>> + Send + Sync> Collector for Scraped<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.collect)().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn each_scrape_looks_again_and_links_share_a_family() {
        let registry = Registry::new();
        let value = Arc::new(AtomicU32::new(0));
        let read = |value: &Arc<AtomicU32>| {
            let value = Arc::clone(value);
            move || f64::from(value.load(Ordering::Relaxed))
        };
        let page = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for link in ["one", "other"] {
            let opts = Opts::new("times_total", "Times.").const_label("link", link);
            counter(&registry, opts, read(&value)).unwrap();
        }
        gauge(&registry, Opts::new("age_seconds", "Age."), read(&value)).unwrap();
        assert!(page().contains("times_total{link=\"one\"} 0\ntimes_total{link=\"other\"} 0\n"));
        value.store(3, Ordering::Relaxed);
        assert!(page().contains("times_total{link=\"one\"} 3\ntimes_total{link=\"other\"} 3\n"));
        assert!(page().contains("age_seconds 3\n"));
        gauge(&registry, Opts::new("age_seconds", "Age."), || 0.0).unwrap_err();
    }
}
