//! The life of a process: every task is tracked, the first signal asks for an orderly end, a task that crashes ends
//! the process, and the end waits for every task, within a deadline.
//!
//! An orderly end has two steps. First the process *leaves*: `/readyz` says so at once, while requests are still
//! answered, for as long as load balancers need to notice (the grace). Then it *ends*: nothing new is begun, and what
//! is under way is finished.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the end may take before tasks are given up.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// Shared by all tasks of a process (or of one service in a test).
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    leaving: CancellationToken,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    crashed: Arc<std::sync::OnceLock<String>>,
}

/// SIGTERM and SIGINT. To be made before anything else: a signal that comes while the process starts is then an orderly
/// end too, and as the first process of a container it would be ignored without a handler.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub async fn next(&mut self) {
        let name = tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}");
    }
}

/// How a process ended.
#[derive(Debug, thiserror::Error)]
pub enum EndedBadly {
    /// A task panicked or returned an error.
    #[error("the task {0} crashed")]
    Crashed(String),
    /// Tasks were still busy at the deadline.
    #[error("{0} tasks did not end within {DRAIN_DEADLINE:?}")]
    Overdue(usize),
}

impl Lifecycle {
    /// A life that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is about to end: it is not to be sent anything new. At the latest when the end has
    /// begun.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Cancelled when the end has begun: tasks finish what they hold and return.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs a task until it ends. If it panics, the whole process begins to end.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.tasks.spawn(async move {
            if let Err(panicked) = tokio::spawn(task).await {
                life.crash(name, &panicked);
            }
        });
    }

    /// The same for a task that may fail.
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

    /// Says that the end is near: nothing new is to be sent to this process.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Begins the end.
    pub fn end(&self) {
        self.leave();
        self.shutdown.cancel();
    }

    /// Waits for SIGTERM, SIGINT or a crash, leaves, and begins the end after `grace`; a second signal or a crash cuts
    /// the grace short.
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

    /// Waits for every task to end, until the deadline.
    ///
    /// # Errors
    /// A task crashed, or tasks are overdue.
    pub async fn drained(&self) -> Result<(), EndedBadly> {
        self.tasks.close();
        if tokio::time::timeout(DRAIN_DEADLINE, self.tasks.wait())
            .await
            .is_err()
        {
            return Err(EndedBadly::Overdue(self.tasks.len()));
        }
        match self.crashed.get() {
            Some(name) => Err(EndedBadly::Crashed(name.clone())),
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
