//! The programs under test as processes.

use std::{
    ffi::OsString,
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use test_patience::patience;
use tokio::time::Instant;

/// The programs under test.
const PROGRAMS: [&str; 3] = ["simulation-service", "benchmark-service", "llm-bench"];

/// A program of the same build as this one.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing: `make faults` builds it",
        path.display()
    );
    Ok(path)
}

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program with `arguments` and appends its output to `log`. `wrapper` is a command that runs it, such as
    /// `ip netns exec NAME`.
    pub(crate) fn start(
        name: &str,
        wrapper: &[OsString],
        arguments: &[&str],
        environment: &[(String, String)],
        log: &File,
    ) -> anyhow::Result<Self> {
        let program = program(name)?;
        let mut command = match wrapper {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        let child = command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        // Does not wrap: Linux's process ids are below 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid(), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// The exit status; `None` while it runs.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills the process with SIGKILL. Fails where it has ended by itself.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("I4: {} ended by itself, with {status}", self.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end, which must have status 0.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + patience();
        loop {
            if let Some(status) = self.ended()? {
                ensure!(
                    status.success(),
                    "{} ended with {status} after SIGTERM",
                    self.name
                );
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {:?} of SIGTERM", self.name, patience());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The largest resident memory so far, in bytes. `None` where the process is gone.
    pub(crate) fn peak_memory(pid: Pid) -> Option<u64> {
        const KIB: u64 = 1024;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // Another process may have the id by now. The kernel keeps the first 15 characters of a name.
        let name = status.lines().find_map(|line| line.strip_prefix("Name:"))?.trim();
        if !PROGRAMS.iter().any(|program| program.starts_with(name)) {
            return None;
        }
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib * KIB)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
