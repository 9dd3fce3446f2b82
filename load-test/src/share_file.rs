//! `share.json`: what a share of a run leaves for the report of the whole run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use precise_time::{MonotonicTime, WallClockError};
use serde::{Deserialize, Serialize};

use crate::{
    calibration::Calibration,
    plan::Plan,
    report::{ReportInputs, RunPart, build, model::WorkloadSection, window::Window},
    share::Share,
};

/// The file's name in the results directory of a share. It is written last: a share that was killed has none.
pub const SHARE_FILE: &str = "share.json";
/// The version of its format. It grows with every change.
pub const SHARE_FILE_VERSION: u32 = 1;

/// `share.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareFile {
    /// [`SHARE_FILE_VERSION`].
    pub version: u32,
    /// Which share of the run this is.
    pub share: Share,
    /// The id of the share's own run, as in its `report.json`.
    pub run_id: String,
    /// The plan of the whole run, with the worker threads of this share.
    pub workload: WorkloadSection,
    /// [`plan_digest`] of it.
    pub plan_digest: String,
    /// [`prompts_digest`] of all prompts of the run: files of the same name on two machines may differ.
    pub prompts_digest: String,
    /// Version of the program.
    pub program: String,
    /// The machine.
    pub host: String,
    /// The moment that the times in `requests.jsonl` are relative to, by the wall clock.
    pub started_at: DateTime<Utc>,
    /// The first moment of the window that the share's figures are about, by the wall clock.
    pub window_start: DateTime<Utc>,
    /// The last moment of that window.
    pub window_end: DateTime<Utc>,
    /// How far the wall clock may have been off.
    pub clock: ClockReadings,
    /// What the client measured of a server with known timings.
    pub calibration: Option<Calibration>,
    /// Histograms, moments, counts and the client's own error.
    pub part: RunPart,
}

/// What the kernel said of the wall clock when the share began and when it had ended; null where the system cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockReadings {
    /// Just before the first request.
    pub at_start: Option<ClockReading>,
    /// After the last request had ended.
    pub at_end: Option<ClockReading>,
}

/// What the kernel said of the wall clock (`adjtimex`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockReading {
    /// Whether something keeps the clock synchronised.
    pub is_synchronised: bool,
    /// The bound on its error (`maxerror`), s.
    pub max_error_s: f64,
    /// The estimate of its error (`esterror`), s.
    pub estimated_error_s: f64,
}

impl ClockReading {
    /// Asks the kernel.
    #[must_use]
    pub fn now() -> Option<Self> {
        WallClockError::now().map(|error| Self {
            is_synchronised: error.is_synchronised,
            max_error_s: error.maximum.as_secs_f64(),
            estimated_error_s: error.estimated.as_secs_f64(),
        })
    }
}

impl ClockReadings {
    /// The larger bound of the two readings, s; why there is none where one of them gives none.
    ///
    /// # Errors
    /// The system could not say, or nothing synchronised the clock.
    pub fn max_error_s(&self) -> Result<f64, &'static str> {
        let (Some(start), Some(end)) = (self.at_start, self.at_end) else {
            return Err("the system cannot say it");
        };
        if start.is_synchronised && end.is_synchronised {
            Ok(start.max_error_s.max(end.max_error_s))
        } else {
            Err("nothing synchronises it")
        }
    }
}

/// Why a directory is no finished share of a run.
#[derive(Debug, thiserror::Error)]
pub enum ShareFileError {
    /// There is no file, or it cannot be read.
    #[error("{}: expected the file that a share of a run writes when it has ended", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has another version.
    #[error("{}: found version {found}, expected {SHARE_FILE_VERSION}: use one version of llm-bench for all shares and for merging", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The file is not what a share writes.
    #[error("{}: expected what a share of a run writes, in version {SHARE_FILE_VERSION}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Lines are missing in `requests.jsonl`, or there are too many.
    #[error("{}: found {found} requests, expected the {expected} that {SHARE_FILE} counts", path.display())]
    Requests {
        /// The file.
        path: PathBuf,
        /// Its lines.
        found: u64,
        /// What the share file counts.
        expected: u64,
    },
}

impl ShareFile {
    /// Of a share that has ended. `inputs` are those of its own report, with the plan of the whole run.
    #[must_use]
    pub fn new(
        inputs: &ReportInputs<'_>,
        share: Share,
        prompts_digest: String,
        clock: ClockReadings,
    ) -> Self {
        let header = &inputs.header;
        let plan = &header.workload.plan;
        let (measurements, recorded) = (inputs.measurements, inputs.recorded);
        let window = Window::choose(&recorded.records, plan.warmup_requests, measurements);
        let wall_clock = |moment: MonotonicTime| {
            measurements.started_at + TimeDelta::nanoseconds(nanos_between(measurements.started, moment))
        };
        Self {
            version: SHARE_FILE_VERSION,
            share,
            run_id: header.run_id.clone(),
            plan_digest: plan_digest(plan),
            prompts_digest,
            program: header.version.clone(),
            host: header.host.clone(),
            started_at: wall_clock(recorded.started),
            window_start: wall_clock(window.start),
            window_end: wall_clock(window.end),
            clock,
            calibration: header.calibration.clone(),
            part: build::part(inputs, &window),
            workload: header.workload.clone(),
        }
    }

    /// Reads it from the results directory of a share.
    ///
    /// # Errors
    /// There is none, it has another version, or it is something else.
    pub fn read(directory: &Path) -> Result<Self, ShareFileError> {
        let path = directory.join(SHARE_FILE);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(source) => return Err(ShareFileError::Read { path, source }),
        };
        let read = serde_json::from_slice(&json).and_then(|Version { version }| {
            let is_known = version == u64::from(SHARE_FILE_VERSION);
            is_known
                .then(|| serde_json::from_slice(&json))
                .transpose()
                .map(|file| file.ok_or(version))
        });
        match read {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(found)) => Err(ShareFileError::Version { path, found }),
            Err(source) => Err(ShareFileError::Malformed { path, source }),
        }
    }
}

/// All that is read of a file before its version is known.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// Nanoseconds from `from` to `to`, negative where `to` is earlier.
fn nanos_between(from: MonotonicTime, to: MonotonicTime) -> i64 {
    to.as_nanos().wrapping_sub(from.as_nanos()).cast_signed()
}

/// A hash of all that decides what a run sends. The number of worker threads decides nothing: each share may have its own.
#[must_use]
pub fn plan_digest(plan: &Plan) -> String {
    let plan = Plan {
        client_cores: std::num::NonZeroU32::MIN,
        ..plan.clone()
    };
    #[expect(
        clippy::expect_used,
        reason = "text keys and finite numbers, written to memory"
    )]
    let json = serde_json::to_vec(&plan).expect("a plan is JSON");
    blake3::hash(&json).to_hex().to_string()
}

/// A hash of the requests' bodies in their order, and of the times at which a trace's requests are due.
#[must_use]
pub fn prompts_digest<'a>(bodies: impl IntoIterator<Item = &'a [u8]>, offsets: &[Duration]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(offsets.len() as u64).to_le_bytes());
    for offset in offsets {
        hasher.update(&offset.as_nanos().to_le_bytes());
    }
    for body in bodies {
        hasher.update(&(body.len() as u64).to_le_bytes());
        hasher.update(body);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use shared_types::ErrorChain;

    use super::*;
    use crate::{
        report::fixtures::{at, header, measurements, record, recorded},
        verdict::ErrorLimits,
    };

    fn file() -> ShareFile {
        let records: Vec<_> = (0..20).map(record).collect();
        let clock = ClockReadings {
            at_start: None,
            at_end: None,
        };
        let inputs = ReportInputs {
            header: header(),
            measurements: &measurements(&records),
            recorded: &recorded(records.clone()),
            limits: ErrorLimits::default(),
        };
        ShareFile::new(&inputs, "1/3".parse().unwrap(), "digest".to_owned(), clock)
    }

    fn read(text: &[u8]) -> Result<ShareFile, String> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SHARE_FILE), text).unwrap();
        ShareFile::read(directory.path()).map_err(|error| ErrorChain(&error).to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let file = file();
        assert_eq!(read(&serde_json::to_vec(&file).unwrap()).unwrap(), file);
        // The first of 20 requests is sent 10 ms after the start, the last one 1 900 ms later.
        let window = [file.window_start, file.window_end].map(|moment| moment - file.started_at);
        assert_eq!(window.map(|since| since.num_milliseconds()), [10, 1_910]);
    }

    #[test]
    fn what_is_no_share_file_is_refused_with_what_was_expected() {
        let mut json = serde_json::to_value(file()).unwrap();
        json["version"] = 2.into();
        json["other"] = 1.into();
        let newer = read(json.to_string().as_bytes()).unwrap_err();
        assert!(
            newer.contains("share.json: found version 2, expected 1"),
            "{newer}"
        );
        json["version"] = 1.into();
        let unknown = read(json.to_string().as_bytes()).unwrap_err();
        assert!(unknown.contains("unknown field `other`"), "{unknown}");
        let torn = read(&serde_json::to_vec(&file()).unwrap()[..500]).unwrap_err();
        assert!(torn.contains("in version 1: EOF"), "{torn}");
        let missing = ShareFile::read(Path::new("/nonexistent")).unwrap_err();
        assert!(
            ErrorChain(&missing)
                .to_string()
                .contains("/nonexistent/share.json: expected the file"),
            "{missing}"
        );
    }

    #[test]
    fn plans_that_send_other_requests_have_other_digests() {
        let plan = header().workload.plan;
        let mut other = plan.clone();
        other.client_cores = std::num::NonZeroU32::new(7).unwrap();
        assert_eq!(plan_digest(&plan), plan_digest(&other));
        other.seed += 1;
        assert_ne!(plan_digest(&plan), plan_digest(&other));
    }

    #[test]
    fn a_digest_of_prompts_knows_where_bodies_end() {
        let of = |bodies: &[&'static str]| prompts_digest(bodies.iter().map(|body| body.as_bytes()), &[]);
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }

    #[test]
    fn a_clock_is_bounded_where_it_was_synchronised_all_the_time() {
        let reading = |is_synchronised, max_error_s| ClockReading {
            is_synchronised,
            max_error_s,
            estimated_error_s: 0.0,
        };
        let readings = |at_start, at_end| ClockReadings { at_start, at_end }.max_error_s();
        let (good, worse, bad) = (reading(true, 0.1), reading(true, 0.2), reading(false, 0.1));
        assert_eq!(readings(Some(good), Some(worse)), Ok(0.2));
        assert_eq!(readings(Some(good), Some(bad)), Err("nothing synchronises it"));
        assert_eq!(readings(Some(good), None), Err("the system cannot say it"));
    }

    #[test]
    fn nanoseconds_may_be_negative() {
        assert_eq!(nanos_between(at(3), at(1)), -2_000_000);
    }
}
