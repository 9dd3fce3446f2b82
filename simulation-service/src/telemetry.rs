use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};

/// What an operator wants to know of a simulation.
#[derive(Debug, Clone)]
pub struct SimulationTelemetry {
    pub(crate) ticks: IntCounter,
    pub(crate) failed_ticks: IntCounter,
    pub(crate) overruns: IntCounter,
    pub(crate) tick_seconds: Histogram,
}

impl SimulationTelemetry {
    /// Registers the metrics, all at zero.
    ///
    /// # Errors
    /// The registry has them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            ticks: IntCounter::new(
                "llm_bench_simulation_ticks_total",
                "Ticks whose batches were all stored",
            )?,
            failed_ticks: IntCounter::new(
                "llm_bench_simulation_failed_ticks_total",
                "Ticks given up because the database stayed away",
            )?,
            overruns: IntCounter::new(
                "llm_bench_simulation_overruns_total",
                "Ticks that took longer than the interval",
            )?,
            tick_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "llm_bench_simulation_tick_seconds",
                    "From the start of a tick to its last batch stored",
                )
                .buckets(prometheus::exponential_buckets(0.001, 4.0, 9)?),
            )?,
        };
        registry.register(Box::new(metrics.ticks.clone()))?;
        registry.register(Box::new(metrics.failed_ticks.clone()))?;
        registry.register(Box::new(metrics.overruns.clone()))?;
        registry.register(Box::new(metrics.tick_seconds.clone()))?;
        Ok(metrics)
    }
}
