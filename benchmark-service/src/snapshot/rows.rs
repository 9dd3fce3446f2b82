//! The rows and bodies of the rankings, in each of their formats.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap};
use shared_types::{Direction, Metric};
use utoipa::ToSchema;

use super::{
    RankingSelection,
    ranking::{Interval, Summary},
    selection::{SourceFilter, Statistic, TimeWindow},
};

/// How many digits after the decimal point numbers have; `None` keeps full precision.
pub type Rounding = Option<u8>;

/// One LLM's place in a ranking. Numbers are in the metric's unit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RankingRow<'a> {
    /// The LLM's name.
    llm: &'a str,
    /// Where the values come from; rows of different sources are ranked separately.
    #[schema(example = "simulated")]
    source: &'static str,
    /// Arithmetic mean: the exact mean of the values, rounded once.
    mean: f64,
    /// 1 is best; LLMs whose 95 % confidence intervals overlap share a rank.
    #[schema(minimum = 1)]
    rank: u32,
    /// How many values there are.
    #[schema(minimum = 1)]
    n: u64,
    /// Sample standard deviation; null for a single value.
    stddev: Option<f64>,
    /// Median, with a relative error of at most 1 %.
    p50: f64,
    /// 90th percentile.
    p90: f64,
    /// 95th percentile.
    p95: f64,
    /// 99th percentile.
    p99: f64,
    /// 95 % confidence interval of the mean; null for a single value.
    #[schema(min_items = 2, max_items = 2)]
    ci95: Option<Vec<f64>>,
    /// When a batch was last counted.
    updated_at: DateTime<Utc>,
}

/// One LLM with its rank, from which the rows of every format are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RankedLlm<'a> {
    pub(crate) llm: &'a str,
    pub(crate) source: &'static str,
    pub(crate) rank: u32,
    pub(crate) summary: &'a Summary,
}

impl<'a> RankedLlm<'a> {
    pub(crate) fn row(self, rounding: Rounding) -> RankingRow<'a> {
        let round = |value| rounded(value, rounding);
        let Summary {
            mean,
            p50,
            p90,
            p95,
            p99,
            ..
        } = self.summary;
        RankingRow {
            llm: self.llm,
            source: self.source,
            mean: round(mean.value),
            rank: self.rank,
            n: self.summary.n,
            stddev: self.summary.stddev.map(round),
            p50: round(p50.value),
            p90: round(p90.value),
            p95: round(p95.value),
            p99: round(p99.value),
            ci95: mean
                .interval
                .map(|Interval { low, high }| vec![round(low), round(high)]),
            updated_at: self.summary.updated_at,
        }
    }

    pub(crate) fn plain_row(self, rounding: Rounding) -> PlainRow<'a> {
        PlainRow {
            llm_name: self.llm,
            avg_value: rounded(self.summary.mean.value, rounding),
            rank: self.rank,
            n: self.summary.n,
            source: self.source,
            updated_at: self.summary.updated_at,
        }
    }

    pub(crate) fn numbered_row(self, id: usize, metric: &'a str, rounding: Rounding) -> NumberedRow<'a> {
        NumberedRow {
            id,
            metric,
            llm_name: self.llm,
            mean_value: rounded(self.summary.mean.value, rounding),
            rank: self.rank,
            source: self.source,
            timestamp: self.summary.updated_at,
        }
    }
}

/// The number nearest to `value` that has `digits` digits after the decimal point.
fn rounded(value: f64, digits: Rounding) -> f64 {
    match digits {
        None => value,
        Some(digits) => format!("{value:.*}", usize::from(digits))
            .parse()
            .unwrap_or(value),
    }
}

/// A row of `GET /ranking/{metric}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlainRow<'a> {
    /// The LLM's name.
    llm_name: &'a str,
    /// Arithmetic mean.
    avg_value: f64,
    /// 1 is best.
    rank: u32,
    /// How many values there are.
    n: u64,
    /// Where the values come from.
    #[schema(example = "simulated")]
    source: &'static str,
    /// When a batch was last counted.
    updated_at: DateTime<Utc>,
}

/// A row of `GET /api/v1/benchmark/{metric}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NumberedRow<'a> {
    /// The row's number, from 1.
    id: usize,
    /// The metric's title.
    metric: &'a str,
    /// The LLM's name.
    llm_name: &'a str,
    /// Arithmetic mean.
    mean_value: f64,
    /// 1 is best.
    rank: u32,
    /// Where the values come from.
    #[schema(example = "simulated")]
    source: &'static str,
    /// When a batch was last counted.
    timestamp: DateTime<Utc>,
}

/// The answer to a request for all rankings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AllRankings<'a> {
    /// Always `success`.
    #[schema(example = "success")]
    pub(crate) status: &'static str,
    /// Everything that was counted until then is known to be in it. Fresh rankings say when they were made, stale ones
    /// when they were last known to be current; the header `X-Data-As-Of` tells the latter of fresh ones too.
    pub(crate) as_of: DateTime<Utc>,
    /// Whether the database has not been heard of, or no batch been consumed, for more than 5 seconds: newer values
    /// may be missing.
    pub(crate) stale: bool,
    /// Whose values are ranked.
    pub(crate) source: SourceFilter,
    /// How far back they go.
    pub(crate) window: TimeWindow,
    /// What is ranked by.
    pub(crate) statistic: Statistic,
    /// One object per metric, in the registry's order, each with the metric's title as its only key.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, Vec<RankingRow>>>)]
    pub(crate) data: Vec<MetricRows<'a>>,
}

/// `{"<title>": [rows]}`
#[derive(Debug)]
pub(crate) struct MetricRows<'a> {
    pub(crate) title: &'a str,
    pub(crate) rows: Vec<RankingRow<'a>>,
}

impl Serialize for MetricRows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.title, &self.rows)?;
        map.end()
    }
}

/// The answer to a request for one metric's ranking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricRanking<'a> {
    /// Always `success`.
    #[schema(example = "success")]
    pub(crate) status: &'static str,
    /// Everything that was counted until then is known to be in it. Fresh rankings say when they were made, stale ones
    /// when they were last known to be current; the header `X-Data-As-Of` tells the latter of fresh ones too.
    pub(crate) as_of: DateTime<Utc>,
    /// Whether the database has not been heard of, or no batch been consumed, for more than 5 seconds: newer values
    /// may be missing.
    pub(crate) stale: bool,
    /// Whose values are ranked.
    pub(crate) source: SourceFilter,
    /// How far back they go.
    pub(crate) window: TimeWindow,
    /// What is ranked by.
    pub(crate) statistic: Statistic,
    /// The metric's title.
    pub(crate) metric: &'a str,
    /// The unit of its values.
    pub(crate) unit: &'a str,
    /// Which way it is ranked.
    #[schema(example = "lower")]
    pub(crate) better: &'static str,
    /// Best first; empty while there are no values.
    pub(crate) data: Vec<RankingRow<'a>>,
}

impl<'a> MetricRanking<'a> {
    pub(crate) fn new(
        metric: &'a Metric,
        selection: RankingSelection,
        (as_of, stale): (DateTime<Utc>, bool),
        data: Vec<RankingRow<'a>>,
    ) -> Self {
        Self {
            status: "success",
            as_of,
            stale,
            source: selection.source,
            window: selection.window,
            statistic: selection.statistic,
            metric: metric.title.as_str(),
            unit: metric.unit.as_str(),
            better: Direction::as_str(metric.better),
            data,
        }
    }
}

/// The answer of `GET /api/v1/benchmark/{metric}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NumberedRanking<'a> {
    /// Always true.
    pub(crate) success: bool,
    /// Best first.
    pub(crate) data: Vec<NumberedRow<'a>>,
    /// Always null.
    pub(crate) message: Option<&'static str>,
}

/// The header line of the CSV form.
pub(crate) const CSV_COLUMNS: [&str; 16] = [
    "metric",
    "unit",
    "source",
    "llm",
    "rank",
    "mean",
    "n",
    "stddev",
    "p50",
    "p90",
    "p95",
    "p99",
    "ci95_low",
    "ci95_high",
    "updated_at",
    "as_of",
];

/// One line of the CSV form. Values that are null in JSON are empty cells.
pub(crate) fn csv_record(metric: &Metric, row: &RankingRow<'_>, as_of: &str) -> [String; 16] {
    let or_empty = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let end = |index: usize| or_empty(row.ci95.as_ref().and_then(|ends| ends.get(index).copied()));
    [
        metric.title.to_string(),
        metric.unit.to_string(),
        row.source.to_owned(),
        row.llm.to_owned(),
        row.rank.to_string(),
        row.mean.to_string(),
        row.n.to_string(),
        or_empty(row.stddev),
        row.p50.to_string(),
        row.p90.to_string(),
        row.p95.to_string(),
        row.p99.to_string(),
        end(0),
        end(1),
        rfc3339(row.updated_at),
        as_of.to_owned(),
    ]
}

/// The time in the format that JSON bodies use.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn rounding_is_decimal_and_keeps_extremes() {
        assert_eq!(rounded(1.005, Some(2)), 1.0);
        assert_eq!(rounded(2.675_1, Some(2)), 2.68);
        assert_eq!(rounded(-0.4, Some(0)), 0.0);
        assert_eq!(rounded(1e300, Some(15)), 1e300);
        assert_eq!(rounded(0.1 + 0.2, None), 0.1 + 0.2);
    }
}
