//! The machine and this process, as the kernel counts them.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use precise_time::MonotonicTime;
use serde::Serialize;

/// The core of the client.
pub(crate) const CLIENT_CORE: usize = 0;
/// The core of the server.
pub(crate) const SERVER_CORE: usize = 1;

/// Above this the others' work is part of the figures.
const QUIET: f64 = 0.5;

/// On what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    /// Runnable tasks on the average of the minute before the start.
    pub load_average: f64,
}

impl Machine {
    pub(crate) fn found() -> anyhow::Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: model
                .unwrap_or("unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            load_average: load_average()?,
        })
    }

    /// Why the figures are not worth much.
    pub(crate) fn warning(&self) -> Option<String> {
        if self.cores <= SERVER_CORE {
            return Some(format!(
                "client and server share {} core: the figures are of both",
                self.cores
            ));
        }
        (self.load_average > QUIET).then(|| {
            format!(
                "the load average is {:.2}, expected at most {QUIET}: others compete for the cores, and the figures are not worth much",
                self.load_average
            )
        })
    }
}

/// Of the last minute.
pub(crate) fn load_average() -> anyhow::Result<f64> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    let minute = averages.split_whitespace().next().context("no load average")?;
    Ok(minute.parse()?)
}

/// Lets this process, with the threads that it starts from now on, run on one core only. On a machine with fewer cores on the last.
pub(crate) fn pin_to(core: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(core.min(cores - 1))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to core {core}"))
}

/// Puts this process, with the threads that it starts from now on, before what else the machine does on the same core, where that is
/// allowed: client and server are measured, and a kernel thread that looks after memory for 60 ms is not. Tells whether it was.
pub(crate) fn go_first() -> bool {
    let process = std::process::id().to_string();
    // Util-linux has it everywhere; a call of its own would be unsafe code.
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "1", &process]);
    let status = chrt.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What this process has used by a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub at: MonotonicTime,
    pub cpu: Duration,
    /// All threads' time in the queue for a core that another task had.
    pub waited: Duration,
}

impl Used {
    pub(crate) fn now() -> anyhow::Result<Self> {
        Ok(Self {
            at: MonotonicTime::now(),
            cpu: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into(),
            waited: waited()?,
        })
    }
}

fn waited() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile; a kernel without statistics of its scheduler has no file.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let waited: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
        nanos += waited;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The most memory that this process has had, MiB.
pub(crate) fn most_resident_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.context("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
