//! Which values are in which batch. Pure functions: the same request lines and the same group always give the same batches.

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};
use shared_types::{
    BatchContent, Invalid, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RunId, Source, Unit,
    Values,
};

use super::{metrics::MeasuredMetric, run_metadata};
use crate::{
    plan::Plan,
    record::{Class, RequestRecord},
};

/// A group has at most this many requests while the run goes on.
pub const REQUESTS_PER_GROUP: usize = 1000;

/// What all batches of a run have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOrigin {
    /// The model that was asked.
    pub llm: LlmName,
    /// The run.
    pub run_id: RunId,
    /// Its workload.
    pub metadata: Metadata,
    /// Metrics that the registry does not know; their values are not published.
    pub left_out: Vec<MeasuredMetric>,
}

impl RunOrigin {
    /// The origin of the run of this plan, for a registry that knows all metrics.
    ///
    /// # Errors
    /// Where the model, the run's id or a label cannot be part of a batch.
    pub fn new(plan: &Plan, run_id: &str) -> Result<Self, Invalid> {
        Ok(Self {
            llm: LlmName::new(&plan.model)?,
            run_id: RunId::new(run_id)?,
            metadata: run_metadata(plan)?,
            left_out: Vec::new(),
        })
    }
}

/// The batches of some requests, one batch for each metric, which are published together. A line of `published.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchGroup {
    /// Its number in the run, from 0.
    pub sequence: u64,
    /// The timestamp of its batches.
    pub timestamp: DateTime<Utc>,
    /// What it holds.
    #[serde(rename = "portion")]
    pub content: GroupContent,
}

/// Which requests a group is made of. Positions count from 0. `Ended` counts in the order in which requests ended, as in
/// `requests.jsonl`. The other kinds are made after the run and count in the order of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum GroupContent {
    /// Requests that have ended, with the tokens that the server counted.
    Ended {
        /// Position of the first request.
        from: usize,
        /// Position after the last request.
        to: usize,
    },
    /// Tokens that were counted after the run, of requests whose other values were published before.
    Counted {
        /// Position of the first request.
        from: usize,
        /// Position after the last request.
        to: usize,
    },
    /// All values of requests of the ramp, where the run has no others.
    Ramp {
        /// Position of the first request.
        from: usize,
        /// Position after the last request.
        to: usize,
    },
    /// Requests completed per second, of the whole run.
    Rates,
}

impl GroupContent {
    /// The group's requests. `ended` are all requests in the order in which they ended, `scheduled` in the order of the schedule.
    /// Empty where some are missing, because fewer values would make a different batch.
    pub(super) fn of<'a>(
        self,
        ended: &'a [RequestRecord],
        scheduled: &'a [RequestRecord],
    ) -> &'a [RequestRecord] {
        match self {
            Self::Ended { from, to } => ended.get(from..to).unwrap_or_default(),
            Self::Counted { from, to } | Self::Ramp { from, to } => {
                scheduled.get(from..to).unwrap_or_default()
            }
            Self::Rates => scheduled,
        }
    }
}

/// Which requests are published: all but the warm-up and, unless the run has no others, the ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFilter {
    pub(super) warmup_requests: u64,
    pub(super) from: MonotonicTime,
    /// Whether responses were streamed. Without a stream there is no time to the first token.
    pub(super) is_streamed: bool,
}

impl RequestFilter {
    /// The filter of a run that began at `started`.
    #[must_use]
    pub fn new(plan: &Plan, started: MonotonicTime) -> Self {
        Self {
            warmup_requests: plan.warmup_requests,
            from: started + plan.load.ramp_up(),
            is_streamed: plan.stream,
        }
    }

    /// Requests in a group that is made after the run.
    const LATE_PER_GROUP: usize = 50_000;

    /// The groups that are made when a run is over, given all of its requests in the order of the schedule.
    pub(super) fn late_groups(&self, records: &[RequestRecord]) -> Vec<GroupContent> {
        let ranges = (0..records.len())
            .step_by(Self::LATE_PER_GROUP)
            .map(|from| (from, records.len().min(from + Self::LATE_PER_GROUP)));
        let is_only_ramp = !records
            .iter()
            .any(|record| self.includes(record) && record.class == Class::Ok);
        if is_only_ramp {
            return ranges
                .map(|(from, to)| GroupContent::Ramp { from, to })
                .chain([GroupContent::Rates])
                .collect();
        }
        let late = |&(from, to): &(usize, usize)| {
            records[from..to]
                .iter()
                .any(|record| record.client_output_tokens.is_some() && record.server_output_tokens.is_none())
        };
        ranges
            .filter(late)
            .map(|(from, to)| GroupContent::Counted { from, to })
            .chain([GroupContent::Rates])
            .collect()
    }

    /// The filter of a run that has only its ramp.
    fn with_ramp(self) -> Self {
        Self {
            from: MonotonicTime::from_nanos(0),
            ..self
        }
    }

    pub(super) fn includes(&self, record: &RequestRecord) -> bool {
        record.index >= self.warmup_requests && record.sent.is_some_and(|sent| sent >= self.from)
    }
}

impl BatchGroup {
    /// The batches of `records`, which are the requests that [`Self::content`] names.
    ///
    /// # Errors
    /// Where a value cannot be part of a batch; measured values always can.
    pub(super) fn batches(
        &self,
        origin: &RunOrigin,
        records: &[RequestRecord],
        filter: RequestFilter,
    ) -> Result<Vec<MetricBatch>, Invalid> {
        let counted = || records.iter().filter(|record| filter.includes(record));
        let values: Vec<(MeasuredMetric, Vec<f64>)> = match self.content {
            GroupContent::Ended { .. } => MeasuredMetric::PER_REQUEST
                .map(|metric| {
                    (
                        metric,
                        counted()
                            .filter_map(|record| metric.value(&as_it_ended(record)))
                            .collect(),
                    )
                })
                .into(),
            GroupContent::Counted { .. } => MeasuredMetric::OF_TOKENS
                .map(|metric| {
                    let late = counted().filter(|record| record.server_output_tokens.is_none());
                    (metric, late.filter_map(|record| metric.value(record)).collect())
                })
                .into(),
            GroupContent::Ramp { .. } => MeasuredMetric::PER_REQUEST
                .map(|metric| {
                    let ramp = filter.with_ramp();
                    let all = records.iter().filter(|record| ramp.includes(record));
                    (metric, all.filter_map(|record| metric.value(record)).collect())
                })
                .into(),
            GroupContent::Rates => vec![(
                MeasuredMetric::Rps,
                completed_per_second(&counted().collect::<Vec<_>>()),
            )],
        };
        values
            .into_iter()
            .filter(|(metric, values)| !values.is_empty() && !origin.left_out.contains(metric))
            .filter(|(metric, _)| filter.is_streamed || *metric != MeasuredMetric::Ttft)
            .map(|(metric, values)| self.batch(origin, metric, values))
            .collect()
    }

    fn batch(
        &self,
        origin: &RunOrigin,
        metric: MeasuredMetric,
        values: Vec<f64>,
    ) -> Result<MetricBatch, Invalid> {
        Ok(MetricBatch::with_derived_id(BatchContent {
            llm: origin.llm.clone(),
            metric: MetricTitle::new(metric.title())?,
            unit: Some(Unit::new(metric.unit())?),
            values: Values::new(values)?,
            timestamp: self.timestamp,
            provenance: Provenance {
                source: Source::Measured,
                run_id: Some(origin.run_id.clone()),
                seed: None,
                sequence: Some(self.sequence),
                metadata: origin.metadata.clone(),
            },
        }))
    }
}

/// The record without the tokens that were counted after the run: as it was when its group was made.
fn as_it_ended(record: &RequestRecord) -> RequestRecord {
    RequestRecord {
        client_output_tokens: None,
        ..*record
    }
}

/// Answered requests in each whole second, from the first that ended to the last that was sent. Before the first none could have
/// ended; after the last the load decreases.
fn completed_per_second(records: &[&RequestRecord]) -> Vec<f64> {
    const SECOND: u64 = 1_000_000_000;
    const MOST_SECONDS: u64 = shared_types::MAX_VALUES as u64;
    let answered = || records.iter().filter(|record| record.class == Class::Ok);
    let first = answered().map(|record| record.closed.as_nanos()).min();
    let last = records.iter().filter_map(|record| record.sent).max();
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    let seconds = (last.as_nanos().saturating_sub(first) / SECOND).min(MOST_SECONDS);
    let mut completed = vec![0.0; usize::try_from(seconds).unwrap_or(0)];
    for record in answered() {
        let second = usize::try_from((record.closed.as_nanos() - first) / SECOND);
        if let Some(count) = second.ok().and_then(|second| completed.get_mut(second)) {
            *count += 1.0;
        }
    }
    completed
}
