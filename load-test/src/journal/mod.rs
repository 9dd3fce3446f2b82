//! What becomes of requests that have ended: a thread beside the workers writes them down while the run goes on.
//!
//! - `requests.jsonl`: one line a request ([`RequestLine`]), handed to the operating system with every chunk that arrives,
//!   so that a process that is killed loses at most the chunk it was about to hand over.
//! - `chunks.jsonl`, where it was asked for: the stamps of all deltas ([`ChunksLine`]).
//! - Answers that are handed over (to be counted or checked, see [`Texts`](crate::run::Texts)) go into a spool, an unnamed
//!   temporary file: memory does not grow with them.
//! - Records stay in memory, and error messages as far as they are bounded ([`ErrorMessages`]).
//! - A [`Follower`] sees every chunk, for instance to publish it.
//!
//! A disk that is full does not end a run: the file is cut back to its last whole line and closed, and the failure is among
//! [`Recorded::problems`].

mod error_messages;
mod jsonl_file;
mod line;
mod recorded;
mod spool;
mod writer;

use std::{
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use precise_time::MonotonicTime;

pub use error_messages::ErrorMessages;
pub use line::{ChunksLine, RequestLine};
pub use recorded::Recorded;
pub use spool::TextSpool;

use crate::record::Finished;
use writer::Writer;

/// One line a request.
pub const REQUESTS_FILE: &str = "requests.jsonl";
/// One line a request, with the stamps of its deltas.
pub const CHUNKS_FILE: &str = "chunks.jsonl";
/// Chunks on their way to the journal. What does not fit stays with the worker until its next turn.
pub const CHANNEL_BOUND: usize = 64;

/// Why something is not written down.
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
    /// A file could not be written; it ends with the last line that was.
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
    Spool {
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

/// Sees what has ended while the run goes on.
///
/// It is called on the journal's thread. While it takes its time, chunks wait in the channel and then with the workers; it
/// must not wait for anything that may take as long as the run.
pub trait Follower: Send {
    /// These requests have ended and are written down.
    fn finished(&mut self, finished: &[Finished]);
}

impl<F: Follower> Follower for Option<F> {
    fn finished(&mut self, finished: &[Finished]) {
        if let Some(follower) = self {
            follower.finished(finished);
        }
    }
}

impl Follower for () {
    fn finished(&mut self, _finished: &[Finished]) {}
}

/// What the journal of a run is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the files go; it must exist. `None`: nothing is written, and the spool is in the system's temporary directory.
    pub directory: Option<PathBuf>,
    /// Whether the stamps of all deltas are written.
    pub record_chunks: bool,
    /// The moment that all times in the files and in the report are relative to: just before the run.
    pub started: MonotonicTime,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal<F> {
    thread: JoinHandle<(Recorded, F)>,
}

impl<F: Follower + 'static> Journal<F> {
    /// Creates the files and starts the thread. The run's threads hand over what has ended through the sender; the journal
    /// ends when it and all its clones are dropped.
    ///
    /// # Errors
    ///
    /// Where a file cannot be created: better before the run than after it.
    pub fn start(settings: Settings, follower: F) -> Result<(SyncSender<Vec<Finished>>, Self), JournalError> {
        let mut writer = Writer::create(settings)?;
        let (sender, receiver) = sync_channel::<Vec<Finished>>(CHANNEL_BOUND);
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

    /// Waits for the end and gives back what was recorded, and the follower. Every sender has to be dropped before.
    ///
    /// # Errors
    ///
    /// Where the thread panicked.
    pub fn finish(self) -> Result<(Recorded, F), JournalError> {
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
