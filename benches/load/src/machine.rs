//! Properties of the machine, and the resources that this process uses.

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

/// Above this load average, other processes distort the figures.
const QUIET: f64 = 0.5;

/// The machine that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    /// Of the minute before the start.
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

    /// The reason why the figures are unreliable, if there is one.
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

/// The load average of the last minute.
pub(crate) fn load_average() -> anyhow::Result<f64> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    let minute = averages.split_whitespace().next().context("no load average")?;
    Ok(minute.parse()?)
}

/// Restricts this process, with the threads that it starts from now on, to one core; on a machine with fewer cores to the last one.
pub(crate) fn pin_to(core: usize) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(core.min(cores - 1))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to core {core}"))
}

/// Gives this process, with the threads that it starts from now on, priority over other processes on the same core, so that a kernel
/// thread that compacts memory for 60 ms does not distort the figures. Returns whether that was permitted.
pub(crate) fn take_priority() -> bool {
    let process = std::process::id().to_string();
    // The command of util-linux, because the system call would need unsafe code.
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "1", &process]);
    let status = chrt.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The resources that this process has used by a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessUsage {
    pub at: MonotonicTime,
    pub cpu: Duration,
    /// The time that all threads waited for a core.
    pub waited: Duration,
}

impl ProcessUsage {
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
        // The file is missing when the thread has ended or the kernel has no scheduler statistics.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let waited: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
        nanos += waited;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The peak of this process's resident memory, in MiB.
pub(crate) fn resident_peak_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line.context("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
