//! One server program: launched, waited for, signalled, ended.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    // Not tokio's: a test that pauses its clock must not make a server look late.
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use test_patience::patience;

use crate::{Error, processes::Processes};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A start is not one step but seconds of a core's work, so it may take as long as this many waits of a test.
const WAITS_OF_A_START: u32 = 3;
const LOG_TAIL_LINES: usize = 20;

/// A server program and everything it starts.
///
/// A plain child of the standard library: tokio's belong to the runtime that started them, and every `#[tokio::test]`
/// has its own.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    server: &'static str,
    log: PathBuf,
    all: Processes,
    main: Mutex<Option<Child>>,
}

impl ServerProcess {
    /// Describes the server; nothing runs yet.
    pub(crate) fn new(server: &'static str, log: PathBuf, all: Processes) -> Self {
        Self {
            server,
            log,
            all,
            main: Mutex::new(None),
        }
    }

    /// Starts `command`, with its output appended to the log, out of reach of the terminal's Ctrl+C.
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

    /// Waits until `is_ready` answers true. A server that ends meanwhile or stays silent is an error.
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

    /// Sends `signal` to the program that was launched, and waits until it and all it started have ended.
    pub(crate) async fn end_by(&self, verb: &'static str, signal: Signal) -> Result<(), Error> {
        self.signal_main(verb, signal)?;
        // A frozen server gets the signal only when it goes on.
        self.all.signal(Signal::SIGCONT);
        self.wait_ended().await
    }

    /// Kills the program that was launched, then all it started, and waits until they are gone.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        self.signal_main("kill", Signal::SIGKILL)?;
        self.all.signal(Signal::SIGKILL);
        self.wait_ended().await
    }

    /// Stops all processes in their tracks. They keep their connections and answer nothing.
    pub(crate) async fn freeze(&self) -> Result<(), Error> {
        // First the one that starts the others.
        self.signal_main("freeze", Signal::SIGSTOP)?;
        self.all.signal(Signal::SIGSTOP);
        let began = Instant::now();
        while !self.all.are_stopped() {
            self.pause(began, "being frozen").await?;
        }
        Ok(())
    }

    /// Lets frozen processes go on.
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
        // Not reaped yet, so the pid is still the child's; one that has ended by itself needs no signal.
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

    /// The exit status, once. A zombie would keep its pid, which PostgreSQL takes for a running postmaster.
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
    /// The watchdog has usually ended everything before; what is left here is to reap the child. On a start that
    /// failed half-way, and where the watchdog itself was killed, this ends the processes.
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
