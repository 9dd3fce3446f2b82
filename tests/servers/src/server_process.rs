//! The process of one server: starts it, waits for it, signals it, ends it.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    // Not tokio's clock: a test that pauses it must not affect the time limits.
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use test_patience::patience;

use crate::{Error, process_set::ProcessSet};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A start takes seconds of CPU time, so its time limit is so many times the limit of a test's wait.
const WAITS_OF_A_START: u32 = 3;
const LOG_TAIL_LINES: usize = 20;

/// A server's process and its descendants.
///
/// A child process of the standard library. One of tokio would belong to the runtime that started it, and every
/// `#[tokio::test]` has its own runtime.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    server: &'static str,
    log: PathBuf,
    all: ProcessSet,
    main: Mutex<Option<Child>>,
}

impl ServerProcess {
    /// A server that is not running yet.
    pub(crate) fn new(server: &'static str, log: PathBuf, all: ProcessSet) -> Self {
        Self {
            server,
            log,
            all,
            main: Mutex::new(None),
        }
    }

    /// Starts `command` and appends its output to the log. It runs in a process group of its own, so the terminal's Ctrl+C does not
    /// reach it.
    pub(crate) fn launch(&self, mut command: Command) -> Result<(), Error> {
        let mut main = self.main();
        if main.is_some() {
            return Err(self.wrong_state("start", "already running"));
        }
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::io(format!("open {}", self.log.display())))?;
        let errors = output
            .try_clone()
            .map_err(Error::io(format!("open {}", self.log.display())))?;
        let child = command
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {:?}", command.get_program())))?;
        *main = Some(child);
        Ok(())
    }

    /// Waits until `is_ready` returns true. Fails where the server ends meanwhile or the time limit passes.
    pub(crate) async fn wait_until<F>(
        &self,
        phase: &'static str,
        is_ready: impl Fn() -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = bool>,
    {
        let began = Instant::now();
        loop {
            if is_ready().await {
                return Ok(());
            }
            if let Some(status) = self.reap_if_ended()? {
                return Err(Error::Ended {
                    server: self.server,
                    phase,
                    status,
                    log_tail: self.log_tail(),
                });
            }
            self.pause(began, phase).await?;
        }
    }

    /// Sends `signal` to the main process, and waits until it and all its descendants have ended.
    pub(crate) async fn end_by(&self, verb: &'static str, signal: Signal) -> Result<(), Error> {
        self.signal_main(verb, signal)?;
        // A frozen process handles the signal only after SIGCONT.
        self.all.signal(Signal::SIGCONT);
        self.wait_ended().await
    }

    /// Kills the main process and its descendants, and waits until they are gone.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.signal_main("kill", Signal::SIGKILL)?;
        self.all.signal(Signal::SIGKILL);
        self.wait_ended().await
    }

    /// Freezes all processes (SIGSTOP). They keep their connections and answer nothing.
    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        // The main process first, because it starts the others.
        self.signal_main("freeze", Signal::SIGSTOP)?;
        self.all.signal(Signal::SIGSTOP);
        let began = Instant::now();
        while !self.all.are_stopped() {
            self.pause(began, "being frozen").await?;
        }
        Ok(())
    }

    /// Continues frozen processes (SIGCONT).
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        self.signal_main("thaw", Signal::SIGCONT)?;
        self.all.signal(Signal::SIGCONT);
        Ok(())
    }

    fn signal_main(&self, verb: &'static str, signal: Signal) -> Result<(), Error> {
        let main = self.main();
        let child = main
            .as_ref()
            .ok_or_else(|| self.wrong_state(verb, "not running"))?;
        // Fails where the process has ended. It is not reaped yet, so the pid still belongs to it.
        let _ = kill(pid_of(child), signal);
        Ok(())
    }

    async fn wait_ended(&self) -> Result<(), Error> {
        let began = Instant::now();
        while self.main().is_some() {
            if self.reap_if_ended()?.is_none() {
                self.pause(began, "ending").await?;
            }
        }
        while !self.all.living().is_empty() {
            self.pause(began, "ending").await?;
        }
        Ok(())
    }

    /// The exit status where the main process has just ended. Reaps it: PostgreSQL would take the pid of a zombie for a running
    /// postmaster.
    fn reap_if_ended(&self) -> Result<Option<ExitStatus>, Error> {
        let mut main = self.main();
        let Some(child) = main.as_mut() else {
            return Ok(None);
        };
        let status = child
            .try_wait()
            .map_err(Error::io(format!("wait for {}", self.server)))?;
        if status.is_some() {
            *main = None;
        }
        Ok(status)
    }

    async fn pause(&self, began: Instant, phase: &'static str) -> Result<(), Error> {
        let deadline = patience() * WAITS_OF_A_START;
        if began.elapsed() > deadline {
            return Err(Error::Deadline {
                server: self.server,
                phase,
                deadline,
                log_tail: self.log_tail(),
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        Ok(())
    }

    fn wrong_state(&self, verb: &'static str, state: &'static str) -> Error {
        Error::WrongState {
            verb,
            server: self.server,
            state,
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn main(&self) -> MutexGuard<'_, Option<Child>> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ServerProcess {
    /// Reaps the child. Usually the watchdog has ended all processes before. After a failed start, or where the watchdog was killed,
    /// this ends them.
    fn drop(&mut self) {
        if let Some(mut child) = self.main().take() {
            let _ = child.kill();
            self.all.signal(Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
