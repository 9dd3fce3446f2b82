//! The journal's thread: files, texts and records.

use super::{
    CHUNKS_FILE, ErrorMessages, JournalError, JournalSettings, REQUESTS_FILE, RecordedRun, TemporaryTextFile,
    jsonl_file::JsonlFile,
    request_line::{ChunksLine, RequestLine},
};
use crate::record::{FinishedRequest, RequestRecord};

#[derive(Debug)]
pub(super) struct JournalWriter {
    settings: JournalSettings,
    requests: Option<JsonlFile>,
    chunks: Option<JsonlFile>,
    texts: TemporaryTextFile,
    records: Vec<RequestRecord>,
    errors: ErrorMessages,
}

impl JournalWriter {
    pub(super) fn create(settings: JournalSettings) -> Result<Self, JournalError> {
        let create = |name: &str| {
            settings
                .directory
                .as_ref()
                .map(|directory| JsonlFile::create(directory.join(name)))
                .transpose()
        };
        Ok(Self {
            requests: create(REQUESTS_FILE)?,
            chunks: if settings.record_chunks {
                create(CHUNKS_FILE)?
            } else {
                None
            },
            texts: match &settings.directory {
                Some(directory) => TemporaryTextFile::create(directory)?,
                None => TemporaryTextFile::create(&std::env::temp_dir())?,
            },
            settings,
            records: Vec::new(),
            errors: ErrorMessages::default(),
        })
    }

    /// Files first, because what is on disk is not lost if the process ends.
    pub(super) fn write(&mut self, finished: &[FinishedRequest]) {
        let started = self.settings.started;
        if let Some(file) = &mut self.requests {
            file.append(
                finished
                    .iter()
                    .map(|ended| RequestLine::new(&ended.record, ended.error.as_deref(), started)),
            );
        }
        if let Some(file) = &mut self.chunks {
            file.append(finished.iter().filter_map(|ended| {
                let stamps = ended.chunk_timestamps.as_deref()?;
                Some(ChunksLine::new(ended.record.index, stamps, started))
            }));
        }
        self.texts.append(
            finished
                .iter()
                .filter_map(|ended| Some((ended.record.index, ended.text.as_deref()?))),
        );
        for ended in finished {
            if let Some(message) = &ended.error {
                self.errors.add(ended.record.index, message);
            }
        }
        self.records.extend(finished.iter().map(|ended| ended.record));
    }

    pub(super) fn finish(mut self) -> RecordedRun {
        let mut problems: Vec<_> = self.texts.take_failure().into_iter().collect();
        let mut close = |file: Option<JsonlFile>| match file?.finish() {
            Ok(path) => Some(path),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        let requests_file = close(self.requests);
        close(self.chunks);
        self.records.sort_unstable_by_key(|record| record.index);
        RecordedRun {
            started: self.settings.started,
            records: self.records,
            errors: self.errors,
            texts: self.texts,
            problems,
            requests_file,
        }
    }
}
