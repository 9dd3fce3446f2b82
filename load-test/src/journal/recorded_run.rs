//! The contents of a journal when the run is over.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use precise_time::MonotonicTime;

use super::{ErrorMessages, JournalError, RequestLine, TemporaryTextFile};
use crate::record::RequestRecord;

/// Everything that was recorded of a run.
#[derive(Debug)]
pub struct RecordedRun {
    /// The moment that all times in the files and in the report are relative to.
    pub started: MonotonicTime,
    /// The requests, in the order of the schedule.
    pub records: Vec<RequestRecord>,
    /// The error messages of failed requests.
    pub errors: ErrorMessages,
    /// The answers that were kept.
    pub texts: TemporaryTextFile,
    /// What could not be written, kept or counted. The report has to contain them, and the command has to fail.
    pub problems: Vec<JournalError>,
    /// The path of `requests.jsonl`, where all its lines were written.
    pub(super) requests_file: Option<PathBuf>,
}

impl RecordedRun {
    /// Counts the tokens of the answers that were kept, on `threads` threads, and adds them to the records and to
    /// `requests.jsonl`, which is replaced atomically. Failures are added to [`Self::problems`].
    pub fn count_tokens(&mut self, count: impl Fn(&str) -> Option<u32> + Sync, threads: NonZeroUsize) {
        if let Err(problem) = self.try_count_tokens(&count, threads) {
            self.problems.push(problem);
        }
    }

    fn try_count_tokens(
        &mut self,
        count: &(impl Fn(&str) -> Option<u32> + Sync),
        threads: NonZeroUsize,
    ) -> Result<(), JournalError> {
        let counted: HashMap<u64, u32> = self.texts.count(count, threads)?.into_iter().collect();
        if counted.is_empty() {
            return Ok(());
        }
        for record in &mut self.records {
            if let Some(tokens) = counted.get(&record.index) {
                record.client_output_tokens = Some(*tokens);
            }
        }
        let Some(path) = &self.requests_file else {
            return Ok(());
        };
        rewrite(path, &counted).map_err(|source| JournalError::Rewrite {
            path: path.clone(),
            source,
        })
    }
}

/// Replaces the file by one that has the counts. A crash leaves the old or the new file, both complete.
fn rewrite(path: &Path, counted: &HashMap<u64, u32>) -> io::Result<()> {
    let old = File::open(path)?;
    let permissions = old.metadata()?.permissions();
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut new = BufWriter::new(tempfile::NamedTempFile::new_in(directory)?);
    let mut lines = BufReader::new(old);
    let mut text = String::new();
    while lines.read_line(&mut text)? > 0 {
        let mut line: RequestLine<'_> = serde_json::from_str(&text)?;
        if let Some(tokens) = counted.get(&line.index) {
            line.client_output_tokens = Some(*tokens);
        }
        serde_json::to_writer(&mut new, &line)?;
        new.write_all(b"\n")?;
        text.clear();
    }
    let new = new.into_inner().map_err(io::IntoInnerError::into_error)?;
    new.as_file().set_permissions(permissions)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}
