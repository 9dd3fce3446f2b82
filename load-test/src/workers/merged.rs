//! The parts of all workers as one.

use std::{collections::BTreeSet, num::NonZeroU32};

use chrono::{DateTime, Utc};

use super::{
    Contribution,
    coordinate::Coordination,
    error::CoordinateError,
    messages::{Made, WorkerName},
};
use crate::{
    plan::Plan,
    report::{
        Report, RunPart,
        build::{Header, of_part},
        llmperf::LlmPerfPart,
        model::{WorkerOutcome, WorkerSection, WorkloadSection},
    },
};

/// What all workers did together.
#[derive(Debug, Clone)]
pub struct Merged {
    run_id: String,
    plan: Plan,
    made: Made,
    started_at: DateTime<Utc>,
    part: Box<RunPart>,
    llmperf: Box<LlmPerfPart>,
    workers: Vec<WorkerSection>,
}

impl Merged {
    pub(super) fn new(
        asked: &Coordination,
        made: Made,
        started_at: DateTime<Utc>,
        workers: Vec<WorkerSection>,
        contributions: Vec<(WorkerName, Contribution)>,
    ) -> Result<Self, CoordinateError> {
        let cores = workers.iter().map(|worker| worker.cores).sum();
        let lost: Vec<_> = workers.iter().filter_map(lost).collect();
        let mut parts = contributions.into_iter().map(|(worker, mut contribution)| {
            name_in_reasons(&mut contribution.part, &worker);
            contribution
        });
        let Some(mut whole) = parts.next() else {
            return Err(CoordinateError::AllLost { reasons: lost });
        };
        for other in parts {
            whole.part.merge(&other.part);
            whole.llmperf.merge(&other.llmperf);
        }
        for reason in lost {
            whole.part.client_error.invalidate(reason.clone());
            whole.part.problems.push(reason);
        }
        Ok(Self {
            run_id: asked.run_id.clone(),
            plan: Plan {
                client_cores: NonZeroU32::new(cores).unwrap_or(NonZeroU32::MIN),
                ..asked.plan.clone()
            },
            made,
            started_at,
            part: Box::new(whole.part),
            llmperf: Box::new(whole.llmperf),
            workers,
        })
    }

    /// The report of the run; `version` is this program's. Where a worker was lost it is invalid and has a problem that says so.
    #[must_use]
    pub fn report(&self, version: &str) -> Report {
        let hosts: BTreeSet<&str> = self.workers.iter().map(|worker| worker.host.as_str()).collect();
        let header = Header {
            run_id: self.run_id.clone(),
            workload: WorkloadSection {
                plan: self.plan.clone(),
                tokenizer: self.made.tokenizer.clone(),
                facts: self.made.facts.clone(),
            },
            version: version.to_owned(),
            host: hosts.into_iter().collect::<Vec<_>>().join(", "),
            started_at: self.started_at,
            calibration: None,
        };
        Report {
            workers: self.workers.clone(),
            ..of_part(header, &self.part)
        }
    }

    /// For LLMPerf's summary: its quantiles are the histograms'.
    #[must_use]
    pub fn llmperf(&self) -> &LlmPerfPart {
        &self.llmperf
    }

    /// The plan, with the worker threads of all workers.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn lost(worker: &WorkerSection) -> Option<String> {
    let WorkerOutcome::Lost { reason } = &worker.outcome else {
        return None;
    };
    Some(format!(
        "Worker {} on {} was lost, and share {} of {} is missing in all figures: {reason}",
        worker.name,
        worker.host,
        worker.share.number() + 1,
        worker.share.of()
    ))
}

/// So that the merged reasons say whose they are.
fn name_in_reasons(part: &mut RunPart, worker: &WorkerName) {
    let named = |text: &String| format!("{}: {text}", worker.name);
    let reasons = &mut part.client_error.reasons;
    *reasons = reasons.iter().map(named).collect();
    part.problems = part.problems.iter().map(named).collect();
}

#[cfg(test)]
mod tests;
