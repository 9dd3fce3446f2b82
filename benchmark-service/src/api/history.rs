//! Statistics over time.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use shared_types::{Invalid, LlmName, MetricTitle, Source};
use statistics::RunningStatistics;
use storage::{BoxError, HistoryFilter, Hour, Period, StatisticsRow, StorageError};
use utoipa::ToSchema;

use super::{
    State,
    request::{Parameters, is_valid_batch_time},
    response::{Success, success},
    schemas::Text,
};
use crate::{
    auth::{Authorized, Read},
    choice::choice,
    problem::Problem,
    snapshot::{SourceFilter, unknown_metric},
};

/// The statistics of one bucket and source. Numbers are in the metric's unit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryRow {
    /// When the bucket starts.
    bucket: DateTime<Utc>,
    /// Where the values come from.
    #[schema(value_type = String, example = "simulated")]
    source: Source,
    /// How many values there are.
    n: u64,
    /// Arithmetic mean.
    mean: Option<f64>,
    /// Median.
    p50: Option<f64>,
    /// 95th percentile.
    p95: Option<f64>,
    /// 99th percentile.
    p99: Option<f64>,
}

choice!(
    /// How long a bucket is.
    Bucket, "bucket", "1h or 1d", default Hour,
    /// An hour.
    Hour = "1h",
    /// A day of UTC.
    Day = "1d"
);

impl Bucket {
    fn hours(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }

    /// The first hour of the bucket that holds `hour`; days are those of UTC.
    fn start(self, hour: Hour) -> Hour {
        Hour(hour.0.div_euclid(self.hours()) * self.hours())
    }
}

struct HistoryQuery {
    llm: LlmName,
    metric: MetricTitle,
    source: Option<Source>,
    bucket: Bucket,
    from: Hour,
    until: Hour,
}

impl HistoryQuery {
    /// The most buckets of one response. A bucket of a day needs 24 rows.
    const MAX_BUCKETS: i64 = 1000;
    const DEFAULT_BUCKETS: i64 = 48;
    const TIME: &str = "an RFC 3339 time between 1970 and 9999, such as 2024-09-27T11:00:00Z";

    fn read(request: &HttpRequest, now: DateTime<Utc>, default: SourceFilter) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(request)?;
        let llm = parameters.take("llm");
        let llm = parameters.require("llm", llm);
        let metric = parameters.take("metric");
        let metric = parameters.require("metric", metric);
        let source = parameters.take("source").unwrap_or(default);
        let bucket: Bucket = parameters.take("bucket").unwrap_or_default();
        let to = parameters
            .take_as("to", Self::TIME, is_valid_batch_time)
            .unwrap_or(now);
        let from = parameters
            .take_as("from", Self::TIME, is_valid_batch_time)
            .unwrap_or_else(|| to - TimeDelta::hours(Self::DEFAULT_BUCKETS * bucket.hours()));
        parameters.finish()?;
        let (Some(llm), Some(metric)) = (llm, metric) else {
            return Err(Problem::invalid(Vec::new()));
        };
        let (first, last) = (bucket.start(Hour::of(from)), bucket.start(Hour::of(to)));
        let buckets = (last.0 - first.0) / bucket.hours() + 1;
        if from > to || buckets > Self::MAX_BUCKETS {
            let found = from.to_rfc3339_opts(SecondsFormat::Secs, true);
            let expected = format!(
                "at most `to`, and at most {} buckets before it",
                Self::MAX_BUCKETS
            );
            return Err(Invalid::new("from", found, expected).into());
        }
        Ok(Self {
            llm,
            metric,
            source: source.only(),
            bucket,
            from: first,
            until: Hour(last.0 + bucket.hours()),
        })
    }
}

/// One LLM's statistics of one metric over time: one row per bucket that holds values, and per source.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "history",
    params(
        ("llm" = inline(Text), Query, description = "the LLM's name"),
        ("metric" = inline(Text), Query, description = "the metric's title, in any case"),
        ("source" = inline(Option<SourceFilter>), Query, description = "whose values; the service's default where it is not given"),
        ("bucket" = inline(Option<Bucket>), Query, description = "1h (default) or 1d"),
        ("from" = Option<DateTime<Utc>>, Query, description = "buckets from the one that holds this time (default 48 buckets before `to`)"),
        ("to" = Option<DateTime<Utc>>, Query, description = "to the one that holds this time (default now)"),
    ),
    responses(
        (status = 200, description = "oldest first", body = Success<Vec<HistoryRow>>),
        (status = 404, description = "no such LLM or metric"),
    ),
)]
pub(super) async fn history(
    _: Authorized<Read>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let query = HistoryQuery::read(&request, state.clock.now(), state.default_selection.source)?;
    let (llms, metrics) = state
        .database
        .read(async { Ok((state.storage.llms().await?, state.storage.metrics().await?)) })
        .await?;
    let llm = llms.iter().find(|llm| llm.name == query.llm);
    let llm = llm.ok_or_else(|| Problem::not_found(format!("there is no LLM {}", query.llm)))?;
    let metric = metrics.iter().find(|metric| metric.title == query.metric);
    let metric = metric.ok_or_else(|| {
        let known = metrics.iter().map(|metric| &metric.title);
        Problem::unknown_metric(unknown_metric(&query.metric, known))
    })?;
    let filter = HistoryFilter {
        llm: llm.id,
        metric: metric.id,
        source: query.source,
        from: query.from,
        until: query.until,
    };
    let rows = state.database.read(state.storage.history(&filter)).await?;
    let buckets = merged(rows, query.bucket).map_err(|source| StorageError::Fault {
        operation: "read history",
        source,
    })?;
    Ok(success(StatusCode::OK, buckets))
}

/// Merges the hours of each bucket.
fn merged(rows: Vec<StatisticsRow>, bucket: Bucket) -> Result<Vec<HistoryRow>, BoxError> {
    let mut buckets: BTreeMap<(Hour, Source), RunningStatistics> = BTreeMap::new();
    for row in rows {
        let Period::Hour(hour) = row.period else {
            continue;
        };
        buckets
            .entry((bucket.start(hour), row.key.source))
            .or_default()
            .merge(&RunningStatistics::from_bytes(&row.state)?)?;
    }
    let rows = buckets
        .into_iter()
        .map(|((hour, source), statistics)| HistoryRow {
            bucket: hour.start(),
            source,
            n: statistics.count(),
            mean: statistics.mean(),
            p50: statistics.quantile(0.5),
            p95: statistics.quantile(0.95),
            p99: statistics.quantile(0.99),
        });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(query: &str) -> Result<HistoryQuery, String> {
        let request = TestRequest::with_uri(&format!("/?llm=a&metric=TTFT&{query}")).to_http_request();
        let now = "2026-05-03T12:30:00Z".parse().unwrap();
        HistoryQuery::read(&request, now, SourceFilter::Simulated).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_range_covers_whole_buckets() {
        let query = read("from=2026-05-01T23:59:59Z&to=2026-05-03T00:00:00Z&bucket=1d").unwrap();
        assert_eq!(query.from.start().to_rfc3339(), "2026-05-01T00:00:00+00:00");
        assert_eq!(query.until.start().to_rfc3339(), "2026-05-04T00:00:00+00:00");
        let query = read("").unwrap();
        assert_eq!(query.until.0 - query.from.0, 49);
    }

    #[test]
    fn the_range_is_bounded_and_ordered() {
        for refused in [
            "from=1970-01-01T00:00:00Z",
            "from=2026-05-04T00:00:00Z",
            "from=yesterday",
            "to=%2B262000-01-01T00:00:00Z",
            "bucket=5m",
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
    }
}
