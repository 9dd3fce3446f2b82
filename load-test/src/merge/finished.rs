//! The results directory of a share that has ended.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use precise_time::MonotonicTime;

use crate::{
    journal::{REQUESTS_FILE, RequestLine},
    record::RequestRecord,
    share_file::{ShareFile, ShareFileError},
};

/// A share that has ended.
#[derive(Debug)]
pub struct FinishedShare {
    /// Its results directory.
    pub(super) directory: PathBuf,
    /// What it says of itself.
    pub(super) file: ShareFile,
    /// Its requests. Their times are nanoseconds since 1970 by its wall clock, so that those of all shares are on one time line.
    pub(super) records: Vec<RequestRecord>,
    /// What went wrong with which request.
    pub(super) errors: Vec<(u64, String)>,
}

impl FinishedShare {
    /// Reads what a share left in its results directory.
    ///
    /// # Errors
    /// A file is missing or is not what a share of this version writes.
    pub fn read(directory: &Path) -> Result<Self, ShareFileError> {
        let file = ShareFile::read(directory)?;
        let path = directory.join(REQUESTS_FILE);
        let started = on_wall_clock(file.started_at);
        let unreadable = |source| ShareFileError::Read {
            path: path.clone(),
            source,
        };
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for text in BufReader::new(File::open(&path).map_err(unreadable)?).lines() {
            let text = text.map_err(unreadable)?;
            let line: RequestLine<'_> =
                serde_json::from_str(&text).map_err(|source| ShareFileError::Malformed {
                    path: path.clone(),
                    source,
                })?;
            records.push(line.record(started));
            errors.extend(line.error.map(|error| (line.index, error.into_owned())));
        }
        let found = records.len() as u64;
        let expected = file.part.requests.ended() + file.part.warmup_requests;
        if found != expected {
            return Err(ShareFileError::Requests {
                path,
                found,
                expected,
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
            file,
            records,
            errors,
        })
    }
}

/// A moment of the wall clock on the time line of merged requests.
pub(super) fn on_wall_clock(moment: DateTime<Utc>) -> MonotonicTime {
    let nanos = moment.timestamp_nanos_opt().unwrap_or(0);
    MonotonicTime::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
