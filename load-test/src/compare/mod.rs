//! Compares two runs: whether one is better, as far as the data show it.
//!
//! It compares the means of latencies and of tokens per second, their 99th percentiles where both runs have one, and the shares of
//! answered and of good requests. For each there is the probability that a difference as large arises by chance (Welch's t test,
//! Price and Bonett's for percentiles, Fisher's exact test). Because several metrics are compared, the probabilities are corrected
//! by Holm's method. A difference is reported where its probability is below 5 % and it is at least as large as the threshold.
//!
//! The gaps between chunks are not compared, because those of one stream are not independent, nor are the rates of the whole run,
//! because each is a single value without a spread.
//!
//! The comparison does not know whether the server was otherwise the same: a difference between two runs may be caused by other load
//! of the server. Repeated, alternating runs answer that.

mod significance;
mod text;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared_types::Direction;

use crate::report::{
    Report,
    distribution::Distribution,
    metrics::{REPORT_METRICS, ReportMetric},
    window::WindowKind,
};
use significance::{Estimate, fisher_exact, holm, two_estimates, welch};

/// A difference is reported where its probability by chance is below this.
const SIGNIFICANCE: f64 = 0.05;

/// Options of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Differences smaller than this share of the first run's value are not reported (0.05 is 5 %).
    pub threshold: f64,
    /// Whether invalid reports are compared too, with a warning.
    pub allow_invalid: bool,
}

/// Why two reports are not compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompareError {
    /// A report is invalid.
    #[error("the {which} report is INVALID and cannot be compared: {reasons}")]
    Invalid {
        /// `first` or `second`.
        which: &'static str,
        /// Why it is.
        reasons: String,
    },
    /// The threshold is not between 0 and 1.
    #[error("threshold {found}: expected a share from 0 to 1, such as 0.05")]
    Threshold {
        /// What was given.
        found: f64,
    },
}

/// The comparison of a second run with a first one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first run.
    pub a: RunIdentity,
    /// The second run.
    pub b: RunIdentity,
    /// Differences smaller than this share of the first run's value were not reported.
    pub threshold: f64,
    /// Why the runs may not be comparable.
    pub warnings: Vec<String>,
    /// The metrics, each with its finding.
    pub metrics: Vec<MetricComparison>,
}

/// Identifies a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunIdentity {
    /// The run's id.
    pub run_id: String,
    /// Its model.
    pub model: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

/// One metric of both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricComparison {
    /// Its name in the report, and the figure, such as `ttft_s p99`.
    pub metric: String,
    /// The first run's value, in the unit that the name says.
    pub a: Option<f64>,
    /// The second run's value.
    pub b: Option<f64>,
    /// (b − a) / a.
    pub relative_difference: Option<f64>,
    /// The probability that a difference as large arises by chance, corrected for the number of metrics.
    pub p_value: Option<f64>,
    /// The conclusion.
    pub finding: Finding,
}

/// The conclusion about a metric of the second run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It is better, with 95 % confidence, by at least the threshold.
    Better,
    /// It is worse, with 95 % confidence, by at least the threshold.
    Worse,
    /// It differs with 95 % confidence, but by less than the threshold.
    BelowThreshold,
    /// A difference is not shown, which does not mean that there is none.
    NoDifferenceShown,
    /// One of the runs has too few values.
    NoBasis,
}

impl Comparison {
    /// Whether some metric of the second run is worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.metrics.iter().any(|metric| metric.finding == Finding::Worse)
    }

    /// The exit status for a gate: 0 where nothing is worse, 1 where something is. Reports that cannot be compared
    /// ([`CompareError`]) are wrong usage: 2.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        u8::from(self.is_worse())
    }

    /// The comparison for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::text(self)
    }
}

/// Compares run `b` with run `a`.
///
/// # Errors
///
/// Where a report is invalid, or the threshold is no share.
pub fn compare(a: &Report, b: &Report, options: &Options) -> Result<Comparison, CompareError> {
    if !(0.0..=1.0).contains(&options.threshold) {
        return Err(CompareError::Threshold {
            found: options.threshold,
        });
    }
    let mut warnings = Vec::new();
    for (which, report) in [("first", a), ("second", b)] {
        if report.is_valid() {
            continue;
        }
        let reasons = report.client_error.reasons.join(" ");
        if !options.allow_invalid {
            return Err(CompareError::Invalid { which, reasons });
        }
        warnings.push(format!("The {which} report is INVALID: {reasons}"));
    }
    warnings.extend(differences(a, b));
    let tests_of_metrics = tests_of_metrics(a, b);
    let p_values: Vec<_> = tests_of_metrics.iter().map(|test| test.p_value).collect();
    let metrics = tests_of_metrics
        .into_iter()
        .zip(holm(&p_values))
        .map(|(test, p_value)| test.judged(p_value, options.threshold))
        .collect();
    Ok(Comparison {
        a: identity(a),
        b: identity(b),
        threshold: options.threshold,
        warnings,
        metrics,
    })
}

fn identity(report: &Report) -> RunIdentity {
    RunIdentity {
        run_id: report.run_id.clone(),
        model: report.model.clone(),
        started_at: report.started_at,
    }
}

/// Differences of the runs' parameters, as warnings. Another model, server or time is not one: that is what comparisons are for.
fn differences(a: &Report, b: &Report) -> Vec<String> {
    let (plan_a, plan_b) = (&a.workload.plan, &b.workload.plan);
    let both = [
        (a.run_id == b.run_id, "Both reports are of one run."),
        (
            plan_a.workload != plan_b.workload,
            "The prompts or their lengths differ.",
        ),
        (
            plan_a.seed != plan_b.seed,
            "The seeds differ, and with them the prompts.",
        ),
        (plan_a.load != plan_b.load, "The load differs."),
        (plan_a.stream != plan_b.stream, "Only one of the runs streamed."),
        (
            plan_a.sampling != plan_b.sampling,
            "The sampling parameters differ.",
        ),
        (
            a.workload.tokenizer != b.workload.tokenizer,
            "The prompts were counted with different tokenizers.",
        ),
        (
            a.token_accounting.counted_by != b.token_accounting.counted_by,
            "The output tokens were not counted by the same side.",
        ),
        (
            a.steady_window.kind != b.steady_window.kind,
            "Only one of the runs has a steady window.",
        ),
    ];
    let either = [("first", a), ("second", b)]
        .into_iter()
        .flat_map(|(which, report)| {
            let whole = report.steady_window.kind == WindowKind::WholeRun
                && a.steady_window.kind == b.steady_window.kind;
            [
                report
                    .interrupted
                    .then(|| format!("The {which} run was cancelled before its end.")),
                whole.then(|| {
                    format!("The {which} run has no steady window: ramp and tail are in its figures.")
                }),
            ]
            .into_iter()
            .flatten()
        });
    both.into_iter()
        .filter(|(differs, _)| *differs)
        .map(|(_, warning)| warning.to_owned())
        .chain(either)
        .collect()
}

/// The test of one metric, before the correction for the number of metrics.
#[derive(Debug)]
struct MetricTest {
    metric: String,
    better: Direction,
    a: Option<f64>,
    b: Option<f64>,
    p_value: Option<f64>,
}

impl MetricTest {
    fn judged(self, p_value: Option<f64>, threshold: f64) -> MetricComparison {
        let relative = self
            .a
            .zip(self.b)
            .and_then(|(a, b)| (a != 0.0).then(|| (b - a) / a.abs()));
        MetricComparison {
            finding: self.finding(p_value, relative, threshold),
            metric: self.metric,
            a: self.a,
            b: self.b,
            relative_difference: relative,
            p_value,
        }
    }

    fn finding(&self, p_value: Option<f64>, relative: Option<f64>, threshold: f64) -> Finding {
        let (Some(p_value), Some(a), Some(b)) = (p_value, self.a, self.b) else {
            return Finding::NoBasis;
        };
        if p_value >= SIGNIFICANCE || a == b {
            return Finding::NoDifferenceShown;
        }
        // From zero to something is larger than any share.
        if relative.is_some_and(|relative| relative.abs() < threshold) {
            return Finding::BelowThreshold;
        }
        if (b < a) == (self.better == Direction::Lower) {
            Finding::Better
        } else {
            Finding::Worse
        }
    }
}

fn tests_of_metrics(a: &Report, b: &Report) -> Vec<MetricTest> {
    let of_metric = |metric: &ReportMetric| {
        let (a, b) = ((metric.of)(a), (metric.of)(b));
        let better = metric.better?;
        Some([
            Some(means(metric.key, better, a, b)),
            p99s(metric.key, better, a, b),
        ])
    };
    let mut tests_of_metrics: Vec<_> = REPORT_METRICS
        .iter()
        .filter_map(of_metric)
        .flatten()
        .flatten()
        .collect();
    tests_of_metrics.push(shares(
        "answered share",
        (a.requests.ok, a.requests.scheduled),
        (b.requests.ok, b.requests.scheduled),
    ));
    if let (Some(good_a), Some(good_b)) = (a.goodput, b.goodput)
        && good_a.slo == good_b.slo
    {
        tests_of_metrics.push(shares(
            "goodput",
            (good_a.good, a.requests.scheduled),
            (good_b.good, b.requests.scheduled),
        ));
    }
    tests_of_metrics
}

fn means(name: &str, better: Direction, a: &Distribution, b: &Distribution) -> MetricTest {
    let moments = |figures: &Distribution| Some((figures.n, figures.mean?, figures.stddev?));
    MetricTest {
        metric: format!("{name} mean"),
        better,
        a: a.mean,
        b: b.mean,
        p_value: moments(a).zip(moments(b)).and_then(|(a, b)| welch(a, b)),
    }
}

/// `None` where a run has too few values for the percentile, and for metrics of which higher is better, whose 99th percentile is
/// the best that users experience.
fn p99s(name: &str, better: Direction, a: &Distribution, b: &Distribution) -> Option<MetricTest> {
    if better == Direction::Higher {
        return None;
    }
    let estimate = |figures: &Distribution| {
        Some(Estimate {
            value: figures.p99?,
            ci95: figures.ci95_p99?,
        })
    };
    let (one, other) = (estimate(a)?, estimate(b)?);
    Some(MetricTest {
        metric: format!("{name} p99"),
        better,
        a: a.p99,
        b: b.p99,
        p_value: Some(two_estimates(one, other)),
    })
}

fn shares(name: &str, a: (u64, u64), b: (u64, u64)) -> MetricTest {
    let share = |(part, whole): (u64, u64)| (whole > 0).then(|| part as f64 / whole as f64);
    MetricTest {
        metric: name.to_owned(),
        better: Direction::Higher,
        a: share(a),
        b: share(b),
        p_value: share(a).and(share(b)).map(|_| fisher_exact(a, b)),
    }
}

#[cfg(test)]
mod tests;
