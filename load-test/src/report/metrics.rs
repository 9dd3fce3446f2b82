//! The metrics of which a report has a distribution: their names, formats and directions, in the order in which they are shown.

use shared_types::Direction;

use super::{
    distribution::Distribution,
    format::{duration, number},
    model::Report,
};

/// A metric of which a report has a distribution.
pub(crate) struct ReportMetric {
    /// The field of `report.json`.
    pub(crate) key: &'static str,
    /// The name in the HTML report.
    pub(crate) name: &'static str,
    /// The name in the summary for the terminal; `None` where the summary does not have the metric.
    pub(crate) summary_name: Option<&'static str>,
    /// Formats a value.
    pub(crate) show: fn(f64) -> String,
    /// Which direction is better; `None` where two runs are not compared by the metric.
    pub(crate) better: Option<Direction>,
    /// The distribution in a report.
    pub(crate) of: fn(&Report) -> &Distribution,
}

const fn latency(
    key: &'static str,
    name: &'static str,
    summary_name: &'static str,
    of: fn(&Report) -> &Distribution,
) -> ReportMetric {
    ReportMetric {
        key,
        name,
        summary_name: Some(summary_name),
        show: duration,
        better: Some(Direction::Lower),
        of,
    }
}

const fn tokens(key: &'static str, name: &'static str, of: fn(&Report) -> &Distribution) -> ReportMetric {
    ReportMetric {
        key,
        name,
        summary_name: None,
        show: number,
        better: None,
        of,
    }
}

/// All metrics of which a report has a distribution.
pub(crate) const REPORT_METRICS: [ReportMetric; 10] = [
    latency("ttft_s", "TTFT", "TTFT", |report| &report.ttft_s),
    latency(
        "ttft_from_intended_s",
        "TTFT from intended start",
        "  from intended start",
        |report| &report.ttft_from_intended_s,
    ),
    ReportMetric {
        summary_name: None,
        better: None,
        ..latency("ttfo_s", "Time to first answer (no reasoning)", "", |report| {
            &report.ttfo_s
        })
    },
    latency("tpot_s", "TPOT", "TPOT", |report| &report.tpot_s),
    ReportMetric {
        better: None,
        ..latency("icl_s", "Inter-chunk latency", "inter-chunk latency", |report| {
            &report.icl_s
        })
    },
    latency("e2e_latency_s", "E2E latency", "e2e latency", |report| {
        &report.e2e_latency_s
    }),
    latency(
        "e2e_from_intended_s",
        "E2E latency from intended start",
        "  from intended start",
        |report| &report.e2e_from_intended_s,
    ),
    ReportMetric {
        summary_name: Some("tokens/s per request"),
        better: Some(Direction::Higher),
        ..tokens("tps", "Tokens/s per request", |report| &report.tps)
    },
    tokens("prompt_tokens", "Prompt tokens", |report| &report.prompt_tokens),
    tokens("output_tokens", "Output tokens", |report| &report.output_tokens),
];
