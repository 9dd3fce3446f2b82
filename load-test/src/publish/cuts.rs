//! Which values are in which batch: pure, so that the same lines and the same cut give the same batches for ever.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared_types::{
    BatchContent, Invalid, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RunId, Source, Unit,
    Values,
};

use super::metrics::MeasuredMetric;
use crate::record::{Class, RequestRecord};

/// So many requests make a cut of their own.
pub const VALUES_PER_CUT: usize = 1000;

/// What all batches of a run say about where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The model that was asked.
    pub llm: LlmName,
    /// The run.
    pub run_id: RunId,
    /// Its workload.
    pub metadata: Metadata,
    /// What the registry does not know.
    pub left_out: Vec<MeasuredMetric>,
}

/// A piece of a run that is published together: a line of `published.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cut {
    /// Its number in the run, from 0.
    pub sequence: u64,
    /// The timestamp of its batches.
    pub timestamp: DateTime<Utc>,
    /// What it holds.
    pub portion: Portion,
}

/// What a cut holds. `Ended` numbers requests in the order in which they ended, as in `requests.jsonl`; the others, which come
/// after the run, in the order of the schedule. From 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Portion {
    /// Requests that have ended, with the tokens that the server counted.
    Ended {
        /// The first.
        from: usize,
        /// The one after the last.
        to: usize,
    },
    /// Tokens that were counted after the run, of requests whose other values were published before.
    Counted {
        /// The first.
        from: usize,
        /// The one after the last.
        to: usize,
    },
    /// Everything of the ramp, of a run that has nothing else.
    Ramp {
        /// The first.
        from: usize,
        /// The one after the last.
        to: usize,
    },
    /// Requests completed per second, of the whole run.
    Rates,
}

impl Portion {
    /// The requests that it is about: of those that have `ended`, in the order in which they did, or of the same in the order of
    /// the schedule. None where some of them are not there: a part of a cut would be another batch.
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

/// Which requests count: not the warm-up's, and not the ramp's unless the run has nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counting {
    pub(super) warmup_requests: u64,
    pub(super) from: precise_time::MonotonicTime,
    /// Without a stream the first token comes with the last, and there is no time to it.
    pub(super) is_streamed: bool,
}

impl Counting {
    /// So many requests are in a batch of those that are made after the run.
    const LATE_PER_CUT: usize = 50_000;

    /// What is still to be published when a run is over, given all of its requests in the order of the schedule.
    pub(super) fn late_portions(&self, records: &[RequestRecord]) -> Vec<Portion> {
        let pieces = (0..records.len())
            .step_by(Self::LATE_PER_CUT)
            .map(|from| (from, records.len().min(from + Self::LATE_PER_CUT)));
        let is_only_ramp = !records
            .iter()
            .any(|record| self.includes(record) && record.class == Class::Ok);
        if is_only_ramp {
            return pieces
                .map(|(from, to)| Portion::Ramp { from, to })
                .chain([Portion::Rates])
                .collect();
        }
        let late = |&(from, to): &(usize, usize)| {
            records[from..to]
                .iter()
                .any(|record| record.client_output_tokens.is_some() && record.server_output_tokens.is_none())
        };
        pieces
            .filter(late)
            .map(|(from, to)| Portion::Counted { from, to })
            .chain([Portion::Rates])
            .collect()
    }

    /// The same for a run that has nothing but its ramp.
    fn with_ramp(self) -> Self {
        Self {
            from: precise_time::MonotonicTime::from_nanos(0),
            ..self
        }
    }

    pub(super) fn includes(&self, record: &RequestRecord) -> bool {
        record.index >= self.warmup_requests && record.sent.is_some_and(|sent| sent >= self.from)
    }
}

impl Cut {
    /// The batches of these requests of the run: those that the portion names, no others.
    ///
    /// # Errors
    /// Where a value cannot be part of a batch: none can that was measured.
    pub(super) fn batches(
        &self,
        origin: &Origin,
        records: &[RequestRecord],
        counting: Counting,
    ) -> Result<Vec<MetricBatch>, Invalid> {
        let counted = || records.iter().filter(|record| counting.includes(record));
        let values: Vec<(MeasuredMetric, Vec<f64>)> = match self.portion {
            Portion::Ended { .. } => MeasuredMetric::PER_REQUEST
                .map(|metric| {
                    (
                        metric,
                        counted()
                            .filter_map(|record| metric.value(&as_it_ended(record)))
                            .collect(),
                    )
                })
                .into(),
            Portion::Counted { .. } => MeasuredMetric::OF_TOKENS
                .map(|metric| {
                    let late = counted().filter(|record| record.server_output_tokens.is_none());
                    (metric, late.filter_map(|record| metric.value(record)).collect())
                })
                .into(),
            Portion::Ramp { .. } => MeasuredMetric::PER_REQUEST
                .map(|metric| {
                    let ramp = counting.with_ramp();
                    let all = records.iter().filter(|record| ramp.includes(record));
                    (metric, all.filter_map(|record| metric.value(record)).collect())
                })
                .into(),
            Portion::Rates => vec![(
                MeasuredMetric::Rps,
                completed_per_second(&counted().collect::<Vec<_>>()),
            )],
        };
        values
            .into_iter()
            .filter(|(metric, values)| !values.is_empty() && !origin.left_out.contains(metric))
            .filter(|(metric, _)| counting.is_streamed || *metric != MeasuredMetric::Ttft)
            .map(|(metric, values)| self.batch(origin, metric, values))
            .collect()
    }

    fn batch(
        &self,
        origin: &Origin,
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

/// The record before anybody counted tokens here: what it was when its cut was made.
fn as_it_ended(record: &RequestRecord) -> RequestRecord {
    RequestRecord {
        client_output_tokens: None,
        ..*record
    }
}

/// Answered requests per whole second from the first that ended until the last that was sent: before it none could have ended,
/// after it the load falls off.
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
