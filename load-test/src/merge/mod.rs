//! One report of the shares of a run.
//!
//! Each share was carried out on its own and left a `share.json` and a `requests.jsonl`. Histograms, moments and counts of the share
//! files are added; the requests are put on one time line by the wall clocks of their machines. What speaks against figures that
//! are made like this is among the reasons of the report's verdict: see [`Merged::new`].

mod finished;
mod windows;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    num::NonZeroU32,
};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;

pub use self::finished::FinishedShare;
use crate::{
    journal::ErrorMessages,
    plan::Plan,
    record::RequestRecord,
    report::{
        Report,
        build::{ReportHeader, of_part},
        model::{ShareSection, WorkloadSection},
    },
    share::Share,
    share_file::ShareFile,
};

/// The shares of a run as one run.
#[derive(Debug)]
pub struct Merged {
    /// The report of the run.
    pub report: Report,
    /// The requests of all shares, in the order of the schedule, on the time line of [`Self::started`].
    pub records: Vec<RequestRecord>,
    /// What went wrong with them.
    pub errors: ErrorMessages,
    /// The moment that all times are relative to: when the last of the shares began.
    pub started: MonotonicTime,
    /// When the last window of a share ended.
    pub ended_at: DateTime<Utc>,
    /// Whether every share is there once. What is not complete is not the run that was planned, and is not to be published.
    pub is_complete: bool,
}

impl Merged {
    /// Merges the shares; `version` is this program's. The run's id is a function of the plan and `run_name`, or of the plan
    /// and the shares' own ids where there is no name: the same shares have the same id again.
    ///
    /// The first share says which run this is. The report is invalid where
    /// - a share is missing or there twice (the second is left out), or is one of another plan (it is left out),
    /// - the figures of a share are invalid by themselves,
    /// - the windows of the shares overlap by less than 90 %, or might do so because of the errors of their clocks, or the error
    ///   of a clock is not known.
    #[must_use]
    pub fn new(shares: Vec<FinishedShare>, version: &str, run_name: Option<&str>) -> Option<Self> {
        let (mut shares, gaps) = chosen(shares)?;
        let files: Vec<&ShareFile> = shares.iter().map(|share| &share.file).collect();
        let mut part = named(files[0]);
        for file in &files[1..] {
            part.merge(&named(file));
        }
        for reason in windows::reasons(&files).iter().chain(&gaps) {
            part.client_error.invalidate(reason.clone());
        }
        part.problems.extend(gaps.iter().cloned());
        let started_at = files.iter().map(|file| file.started_at).max()?;
        let header = ReportHeader {
            run_id: run_id(&files, run_name),
            workload: workload(&files),
            version: version.to_owned(),
            host: hosts(&files),
            started_at,
            calibration: None,
        };
        let report = Report {
            shares: files.iter().map(|file| section(file)).collect(),
            ..of_part(header, &part)
        };
        let ended_at = files.iter().map(|file| file.window_end).max()?;
        let mut records: Vec<_> = shares
            .iter_mut()
            .flat_map(|share| share.records.drain(..))
            .collect();
        records.sort_by_key(|record| record.index);
        let mut errors = ErrorMessages::default();
        for (index, message) in shares.iter().flat_map(|share| &share.errors) {
            errors.add(*index, message);
        }
        Some(Self {
            report,
            records,
            errors,
            started: finished::on_wall_clock(started_at),
            ended_at,
            is_complete: gaps.is_empty(),
        })
    }

    /// The plan of the run.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.report.workload.plan
    }
}

/// Each share of the first one's run once, in their order; and what is missing or left out. `None` where there are no shares.
fn chosen(shares: Vec<FinishedShare>) -> Option<(Vec<FinishedShare>, Vec<String>)> {
    let mut chosen: BTreeMap<Share, FinishedShare> = BTreeMap::new();
    let mut gaps = Vec::new();
    let first = shares.first()?;
    let (first_file, first_directory) = (first.file.clone(), first.directory.clone());
    for share in shares {
        if let Some(difference) = difference(&first_file, &share.file) {
            gaps.push(format!(
                "{} is a share of another run and is left out: {difference} as in {}.",
                share.directory.display(),
                first_directory.display()
            ));
            continue;
        }
        match chosen.entry(share.file.share) {
            Entry::Vacant(entry) => {
                entry.insert(share);
            }
            Entry::Occupied(entry) => gaps.push(format!(
                "Share {} is there twice, in {} and in {}; expected once. The second is left out.",
                share.file.share,
                entry.get().directory.display(),
                share.directory.display()
            )),
        }
    }
    for share in Share::all(first_file.share.count()) {
        if !chosen.contains_key(&share) {
            gaps.push(format!("Share {share} is missing in all figures."));
        }
    }
    Some((chosen.into_values().collect(), gaps))
}

/// What shows that a share is one of another run: what was found, and what is expected.
fn difference(expected: &ShareFile, found: &ShareFile) -> Option<String> {
    let identity = |file: &ShareFile| {
        [
            ("a plan with digest", file.plan_digest.clone()),
            ("a number of shares of", file.share.count().to_string()),
            ("the tokenizer", file.workload.tokenizer.clone()),
            ("prompts with digest", file.prompts_digest.clone()),
            ("the program's version", file.program.clone()),
        ]
    };
    let pairs = identity(found).into_iter().zip(identity(expected));
    let mut differing = pairs.filter(|(found, expected)| found != expected);
    let ((what, found), (_, expected)) = differing.next()?;
    Some(format!("found {what} {found}, expected {expected}"))
}

/// The share's part, in whose reasons and problems it is named.
fn named(file: &ShareFile) -> crate::report::RunPart {
    let mut part = file.part.clone();
    let named = |text: &String| format!("Share {}: {text}", file.share);
    part.client_error.reasons = part.client_error.reasons.iter().map(named).collect();
    part.problems = part.problems.iter().map(named).collect();
    part
}

fn run_id(files: &[&ShareFile], run_name: Option<&str>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(files[0].plan_digest.as_bytes());
    match run_name {
        Some(name) => {
            hasher.update(name.as_bytes());
        }
        None => {
            for file in files {
                hasher.update(file.run_id.as_bytes());
            }
        }
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// What was asked, with the worker threads of all shares.
fn workload(files: &[&ShareFile]) -> WorkloadSection {
    let mut workload = files[0].workload.clone();
    let cores = files
        .iter()
        .map(|file| file.workload.plan.client_cores.get())
        .sum();
    workload.plan.client_cores = NonZeroU32::new(cores).unwrap_or(NonZeroU32::MIN);
    workload
}

fn hosts(files: &[&ShareFile]) -> String {
    let hosts: BTreeSet<&str> = files.iter().map(|file| file.host.as_str()).collect();
    hosts.into_iter().collect::<Vec<_>>().join(", ")
}

fn section(file: &ShareFile) -> ShareSection {
    ShareSection {
        share: file.share,
        run_id: file.run_id.clone(),
        host: file.host.clone(),
        version: file.program.clone(),
        cores: file.workload.plan.client_cores.get(),
        window_start: file.window_start,
        window_end: file.window_end,
        clock_error_s: file.clock.max_error_s().ok(),
        requests: file.part.requests,
        warmup_requests: file.part.warmup_requests,
        client_error: file.part.client_error.clone(),
        calibration: file.calibration.clone(),
    }
}
