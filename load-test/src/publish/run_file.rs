use std::{fs, io, path::Path};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    PUBLISHED_FILE, PublishError,
    batch_group::{BatchGroup, GroupContent},
    publication_log::lines,
};
use crate::{journal::REQUESTS_FILE, plan::Plan, share::Share, share_file::SHARE_FILE};

/// Describes a run; written before its first request, so that the files of a killed run can be interpreted.
pub const RUN_FILE: &str = "run.json";

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Identifies the run.
    pub run_id: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// What it was asked to do.
    pub plan: Plan,
    /// Which share of the plan it was; null for a whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The date of batches that are made of its requests after the run; null: the time at which they are made. A run that was merged
    /// from shares has one, so that whoever merges the shares again makes the same batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches_dated: Option<DateTime<Utc>>,
}

impl RunFile {
    /// Starts the results directory of this run; removes the requests and groups of an earlier run.
    ///
    /// # Errors
    /// Where an earlier run there is not published completely, or a file cannot be removed or written.
    pub fn write(&self, directory: &Path) -> Result<(), PublishError> {
        if has_unpublished(directory)? {
            return Err(PublishError::Unpublished {
                directory: directory.to_owned(),
            });
        }
        // The run's own file first: without it the remaining files are not taken for a run.
        for name in [RUN_FILE, SHARE_FILE, PUBLISHED_FILE, REQUESTS_FILE] {
            remove(&directory.join(name))?;
        }
        let path = directory.join(RUN_FILE);
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(&path, json))
            .map_err(|source| PublishError::File { path, source })
    }

    /// Reads it from the results directory.
    ///
    /// # Errors
    /// Where it is missing or not valid.
    pub fn read(directory: &Path) -> Result<Self, PublishError> {
        let path = directory.join(RUN_FILE);
        let read = fs::read(&path).and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from));
        read.map_err(|source| PublishError::File { path, source })
    }
}

/// Whether the publishing of a run has begun and is incomplete: its last group is missing.
fn has_unpublished(directory: &Path) -> Result<bool, PublishError> {
    let path = directory.join(PUBLISHED_FILE);
    if !path.exists() || !directory.join(RUN_FILE).exists() {
        return Ok(false);
    }
    let groups: Vec<BatchGroup> = lines(&path, |line| serde_json::from_slice(line))?;
    Ok(!groups.iter().any(|group| group.content == GroupContent::Rates))
}

fn remove(path: &Path) -> Result<(), PublishError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PublishError::File {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
