use shared_types::{Bounds, Direction, Invalid, MetricTitle, NewMetric, Unit};

use crate::{
    record::{Class, RequestRecord},
    report::request_metrics::{end_to_end, time_per_output_token, time_to_first_token, tokens_per_second},
};

/// A metric that a run publishes; titles are those of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeasuredMetric {
    /// Time to the first token, from sent.
    Ttft,
    /// Time to the last token, from sent.
    E2eLatency,
    /// Output tokens per second of a request.
    Tps,
    /// Time per output token after the first.
    Tpot,
    /// Requests completed in a second.
    Rps,
}

impl MeasuredMetric {
    /// Metrics with one value for each request.
    pub(super) const PER_REQUEST: [Self; 4] = [Self::Ttft, Self::E2eLatency, Self::Tps, Self::Tpot];
    /// Metrics that need the number of tokens, which may be known only after the run.
    pub(super) const OF_TOKENS: [Self; 2] = [Self::Tps, Self::Tpot];

    /// Its title in the registry.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::E2eLatency => "e2e_latency",
            Self::Tps => "tps",
            Self::Tpot => "tpot",
            Self::Rps => "rps",
        }
    }

    /// Its unit in the registry.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Ttft | Self::E2eLatency | Self::Tpot => "s",
            Self::Tps => "tokens/s",
            Self::Rps => "requests/s",
        }
    }

    /// Its value of one request; `None` where the request has none.
    pub(super) fn value(self, record: &RequestRecord) -> Option<f64> {
        if record.class != Class::Ok {
            return None;
        }
        let sent = record.sent?;
        match self {
            Self::Ttft => time_to_first_token(record, sent).map(|time| time.as_secs_f64()),
            Self::E2eLatency => end_to_end(record, sent).map(|time| time.as_secs_f64()),
            Self::Tps => tokens_per_second(record),
            Self::Tpot => time_per_output_token(record),
            Self::Rps => None,
        }
    }
}

/// The metrics that a registry may not have yet: `tpot`. Its bounds are those of simulated values: 1 ms to 1 s per token.
///
/// # Errors
/// Never; the constants are valid.
pub(super) fn definitions_to_register() -> Result<[(MeasuredMetric, NewMetric); 1], Invalid> {
    let tpot = NewMetric {
        title: MetricTitle::new(MeasuredMetric::Tpot.title())?,
        unit: Unit::new(MeasuredMetric::Tpot.unit())?,
        bounds: Bounds::new(0.001, 1.0)?,
        better: Direction::Lower,
    };
    Ok([(MeasuredMetric::Tpot, tpot)])
}
