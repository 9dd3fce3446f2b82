//! The lifecycle of a process. Every task is tracked. The first signal starts an orderly shutdown, and so does a task that
//! crashes. The shutdown waits for every task, within a deadline.
//!
//! A shutdown has two steps. First the process *leaves*: `/readyz` reports it at once, and requests are still answered for as
//! long as load balancers need to notice (the grace period). Then the process *ends*: no new work starts, and running work is
//! finished.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the tasks may take to end before they are given up.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// The state of the lifecycle, shared by all tasks of a process (or of one service in a test).
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    leaving: CancellationToken,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    crashed: Arc<std::sync::OnceLock<String>>,
}

/// Receives SIGTERM and SIGINT. Create it first, so that a signal during the start leads to an orderly shutdown too. Without a
/// handler, the first process of a container would ignore the signal.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub async fn next(&mut self) {
        let name = tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}");
    }
}

/// Why a shutdown was not orderly.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A task panicked or returned an error.
    #[error("the task {0} crashed")]
    Crashed(String),
    /// So many tasks had not ended at the deadline.
    #[error("{0} tasks did not end within {DRAIN_DEADLINE:?}")]
    Overdue(usize),
}

impl Lifecycle {
    /// The lifecycle of a process that has just started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is about to end and must get no new requests; at the latest when the end starts.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Cancelled when the end starts: tasks finish their current work and return.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Spawns a tracked task. If it panics, the whole process ends.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.tasks.spawn(async move {
            if let Err(panicked) = tokio::spawn(task).await {
                life.crash(name, &panicked);
            }
        });
    }

    /// Spawns a tracked task that may fail. If it fails or panics, the whole process ends.
    pub fn spawn_fallible<E>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let life = self.clone();
        self.spawn(name, async move {
            if let Err(error) = task.await {
                let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                life.crash(name, error.as_ref());
            }
        });
    }

    fn crash(&self, name: &str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(task.name = name, error, "a task crashed; ending the process");
        self.crashed.get_or_init(|| name.to_owned());
        self.end();
    }

    /// Announces the end: this process must get no new requests.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Starts the end.
    pub fn end(&self) {
        self.leave();
        self.shutdown.cancel();
    }

    /// Waits for SIGTERM, SIGINT or a crash. After a signal the process leaves, and ends after `grace`; a second signal or a crash
    /// ends it at once.
    pub async fn until_signalled(&self, mut signals: Signals, grace: Duration) {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            () = signals.next() => tracing::info!(grace.seconds = grace.as_secs(), "leaving"),
        }
        self.leave();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = signals.next() => {}
            () = tokio::time::sleep(grace) => {}
        }
        tracing::info!("finishing what is under way");
        self.end();
    }

    /// Waits for every task to end, at most [`DRAIN_DEADLINE`].
    ///
    /// # Errors
    /// A task crashed, or tasks have not ended in time.
    pub async fn drained(&self) -> Result<(), ShutdownError> {
        self.tasks.close();
        if tokio::time::timeout(DRAIN_DEADLINE, self.tasks.wait())
            .await
            .is_err()
        {
            return Err(ShutdownError::Overdue(self.tasks.len()));
        }
        match self.crashed.get() {
            Some(name) => Err(ShutdownError::Crashed(name.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_every_task() {
        let life = Lifecycle::new();
        let (finished, shutdown) = (Arc::new(std::sync::OnceLock::new()), life.shutdown());
        let note = Arc::clone(&finished);
        life.spawn("worker", async move {
            shutdown.cancelled().await;
            tokio::task::yield_now().await;
            note.get_or_init(|| ());
        });
        life.end();
        life.drained().await.unwrap();
        assert!(finished.get().is_some());
    }

    #[tokio::test]
    async fn a_signal_makes_it_leave_first_and_end_after_the_grace_or_a_second_signal() {
        let life = Lifecycle::new();
        let signalled = tokio::spawn({
            let life = life.clone();
            // Before the signal is sent, which would end the test.
            let signals = Signals::listen().unwrap();
            async move { life.until_signalled(signals, Duration::from_secs(3600)).await }
        });
        terminate_myself();
        life.leaving().cancelled().await;
        assert!(!life.shutdown().is_cancelled());
        terminate_myself();
        signalled.await.unwrap();
        assert!(life.shutdown().is_cancelled());
    }

    fn terminate_myself() {
        let pid = nix::unistd::Pid::this();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    #[tokio::test]
    async fn a_panic_and_an_error_end_the_process() {
        let life = Lifecycle::new();
        life.spawn("panicking", async { panic!("on purpose") });
        life.shutdown().cancelled().await;
        assert_eq!(
            life.drained().await.unwrap_err().to_string(),
            "the task panicking crashed"
        );

        let life = Lifecycle::new();
        life.spawn_fallible("failing", async { Err(std::io::Error::other("on purpose")) });
        life.until_signalled(Signals::listen().unwrap(), Duration::ZERO)
            .await;
        assert_eq!(
            life.drained().await.unwrap_err().to_string(),
            "the task failing crashed"
        );
    }
}
