//! What a worker did, and what a report says of it.

use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use super::{Share, messages::WorkerName};
use crate::{
    calibration::Calibration,
    report::{
        Inputs, RunPart, build,
        llmperf::LlmPerfPart,
        model::{WorkerOutcome, WorkerSection},
        window::Window,
    },
};

/// What a worker did: all that the common report needs of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// For `report.json`.
    pub part: RunPart,
    /// For LLMPerf's summary.
    pub llmperf: LlmPerfPart,
    /// What the worker measured of a server with known timings.
    pub calibration: Option<Calibration>,
    /// From the moment at which all workers were to begin until its run began, by its own clock, s.
    pub began_late_s: f64,
    /// When its run began; means nothing on another machine.
    #[serde(skip)]
    started: Option<MonotonicTime>,
}

impl Contribution {
    /// Of a run that is over; its inputs are those of a report, with the calibration in the header.
    #[must_use]
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let plan = &inputs.header.workload.plan;
        let records = &inputs.recorded.records;
        let window = Window::choose(records, plan.warmup_requests, inputs.facts);
        let counted = records
            .iter()
            .filter(|record| record.index >= plan.warmup_requests);
        Self {
            part: build::part(inputs, &window),
            llmperf: LlmPerfPart::new(counted),
            calibration: inputs.header.calibration.clone(),
            began_late_s: 0.0,
            started: Some(inputs.facts.started),
        }
    }

    /// Notes how late the run began.
    pub(super) fn was_due(&mut self, due: MonotonicTime) {
        if let Some(started) = self.started {
            self.began_late_s = started.saturating_since(due).as_secs_f64();
        }
    }

    /// What the report says of it; `heard_within_s` as in [`WorkerSection::began_within_s`], but by the coordinator's clock alone.
    pub(super) fn section(
        &self,
        worker: &WorkerName,
        share: Share,
        heard_within_s: Option<f64>,
    ) -> WorkerSection {
        WorkerSection {
            requests: Some(self.part.requests),
            warmup_requests: self.part.warmup_requests,
            client_error: Some(self.part.client_error.clone()),
            calibration: self.calibration.clone(),
            began_within_s: heard_within_s.map(|heard| heard + self.began_late_s),
            outcome: WorkerOutcome::Done,
            ..lost(worker, share, String::new())
        }
    }
}

/// What the report says of a worker of which nothing came.
pub(super) fn lost(worker: &WorkerName, share: Share, reason: String) -> WorkerSection {
    WorkerSection {
        name: worker.name.clone(),
        host: worker.host.clone(),
        version: worker.version.clone(),
        cores: worker.cores,
        share,
        outcome: WorkerOutcome::Lost { reason },
        left_before_start: Vec::new(),
        began_within_s: None,
        requests: None,
        warmup_requests: 0,
        client_error: None,
        calibration: None,
    }
}
