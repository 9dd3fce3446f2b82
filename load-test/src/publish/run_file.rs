use std::{fs, io, path::Path};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::PublishError;
use crate::plan::Plan;

/// What a run is, written before its first request: what is left of a run that was killed can be read with it.
pub const RUN_FILE: &str = "run.json";

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Identifies the run.
    pub run_id: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// What it was to do.
    pub plan: Plan,
}

impl RunFile {
    /// Writes it into the results directory.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), PublishError> {
        let path = directory.join(RUN_FILE);
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(&path, json))
            .map_err(|source| PublishError::File { path, source })
    }

    /// Reads it from the results directory.
    ///
    /// # Errors
    /// Where there is none, or something else.
    pub fn read(directory: &Path) -> Result<Self, PublishError> {
        let path = directory.join(RUN_FILE);
        let read = fs::read(&path).and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from));
        read.map_err(|source| PublishError::File { path, source })
    }
}
