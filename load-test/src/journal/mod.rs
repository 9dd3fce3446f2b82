//! The journal: a thread that writes requests down as they end, while the run goes on.
//!
//! - `requests.jsonl`: one line for each request ([`RequestLine`]), written at once for every list of requests that arrives, so
//!   that a process that is killed loses at most the list that it was about to write.
//! - `chunks.jsonl`, where it is asked for: the timestamps of all deltas ([`ChunksLine`]).
//! - Answers that are handed over (to be counted or checked, see [`Texts`](crate::run::Texts)) go into a texts, an unnamed
//!   temporary file: memory does not grow with them.
//! - Records stay in memory, and error messages as far as they are bounded ([`ErrorMessages`]).
//! - A [`JournalSubscriber`] receives every list of requests, for instance to publish them.
//!
//! A full disk does not end a run: the file is truncated after its last complete line and closed, and the failure is among
//! [`RecordedRun::problems`].

mod error_messages;
mod jsonl_file;
mod recorded_run;
mod request_line;
mod temporary_text_file;
mod writer;

use std::{
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use precise_time::MonotonicTime;

pub use error_messages::ErrorMessages;
pub use recorded_run::RecordedRun;
pub use request_line::{ChunksLine, RequestLine};
pub use temporary_text_file::TemporaryTextFile;

use crate::record::FinishedRequest;
use writer::JournalWriter;

/// One line for each request.
pub const REQUESTS_FILE: &str = "requests.jsonl";
/// One line for each request, with the timestamps of its deltas.
pub const CHUNKS_FILE: &str = "chunks.jsonl";
/// Capacity of the channel to the journal, lists of requests. Where it is full, a worker thread keeps its list until later.
pub const CHANNEL_BOUND: usize = 64;

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file could not be created.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written completely; it ends with a complete line.
    #[error("cannot write {}: lines of {lost} requests are missing at its end", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Requests whose lines are missing.
        lost: u64,
        /// Why.
        source: std::io::Error,
    },
    /// Answers could not be kept for counting.
    #[error("cannot keep answers in a temporary file: {lost} are not counted")]
    KeepText {
        /// Answers that are not there.
        lost: u64,
        /// Why.
        source: std::io::Error,
    },
    /// An answer that was kept could not be read again.
    #[error("cannot read the answer of request {index} again")]
    ReadBack {
        /// The request.
        index: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The threads that count tokens could not be started.
    #[error("cannot start threads to count tokens")]
    CountingThreads(#[source] std::io::Error),
    /// The counted tokens could not be added to a file; it is as it was.
    #[error("cannot add the counted tokens to {}", path.display())]
    Rewrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the journal's thread")]
    Thread(#[source] std::io::Error),
    /// The thread panicked; its records are lost.
    #[error("the journal's thread panicked: {0}")]
    Panicked(String),
}

/// Receives requests as they end.
///
/// It is called on the journal's thread. Meanwhile further requests wait in the channel and then in the worker threads, so it must
/// not wait for anything that may take as long as the run.
pub trait JournalSubscriber: Send {
    /// These requests have ended and are written.
    fn finished(&mut self, finished: &[FinishedRequest]);
}

impl<F: JournalSubscriber> JournalSubscriber for Option<F> {
    fn finished(&mut self, finished: &[FinishedRequest]) {
        if let Some(follower) = self {
            follower.finished(finished);
        }
    }
}

impl JournalSubscriber for () {
    fn finished(&mut self, _finished: &[FinishedRequest]) {}
}

/// What the journal of a run writes, and where.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// Existing directory of the files. `None`: no files are written, and texts are kept in the system's temporary directory.
    pub directory: Option<PathBuf>,
    /// Whether the timestamps of all deltas are written.
    pub record_chunks: bool,
    /// The moment that all times in the files and in the report are relative to: just before the run.
    pub started: MonotonicTime,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal<F> {
    thread: JoinHandle<(RecordedRun, F)>,
}

impl<F: JournalSubscriber + 'static> Journal<F> {
    /// Creates the files and starts the thread. The run's threads send requests that have ended; the journal ends when all senders
    /// are dropped.
    ///
    /// # Errors
    ///
    /// Where a file cannot be created, or the thread cannot be started.
    pub fn start(
        settings: JournalSettings,
        follower: F,
    ) -> Result<(SyncSender<Vec<FinishedRequest>>, Self), JournalError> {
        let mut writer = JournalWriter::create(settings)?;
        let (sender, receiver) = sync_channel::<Vec<FinishedRequest>>(CHANNEL_BOUND);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let mut follower = follower;
                for finished in receiver {
                    writer.write(&finished);
                    follower.finished(&finished);
                }
                (writer.finish(), follower)
            })
            .map_err(JournalError::Thread)?;
        Ok((sender, Self { thread }))
    }

    /// Waits for the end and returns what was recorded, and the subscriber. Every sender has to be dropped before.
    ///
    /// # Errors
    ///
    /// Where the thread panicked.
    pub fn finish(self) -> Result<(RecordedRun, F), JournalError> {
        self.thread.join().map_err(|panic| {
            let message = panic
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            JournalError::Panicked(message.unwrap_or_else(|| "without a message".to_owned()))
        })
    }
}

#[cfg(test)]
mod tests;
