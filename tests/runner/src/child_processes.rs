//! The processes that this program starts, and the signals that end them.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// The value of `group` while no process runs.
const NONE: i32 = 0;

/// Starts one process at a time, in a process group of its own. Signals that ask this program to end (Ctrl+C, `kill`, the end of
/// the terminal) are forwarded to that group. So the servers outlive the tests, and everything is cleaned up.
#[derive(Clone)]
pub(crate) struct ChildProcesses {
    group: Arc<AtomicI32>,
    is_interrupted: Arc<AtomicBool>,
}

impl ChildProcesses {
    /// Installs the signal handlers, for as long as `runtime` exists.
    pub(crate) fn new(runtime: &Runtime) -> io::Result<Self> {
        let children = Self {
            group: Arc::new(AtomicI32::new(NONE)),
            is_interrupted: Arc::default(),
        };
        let _context = runtime.enter();
        for (kind, forwarded) in [
            (SignalKind::interrupt(), Signal::SIGINT),
            (SignalKind::terminate(), Signal::SIGTERM),
            (SignalKind::hangup(), Signal::SIGHUP),
        ] {
            let mut received = signal(kind)?;
            let children = children.clone();
            runtime.spawn(async move {
                while received.recv().await.is_some() {
                    children.is_interrupted.store(true, Ordering::SeqCst);
                    children.forward(forwarded);
                }
            });
        }
        Ok(children)
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        self.group.store(child.id().cast_signed(), Ordering::SeqCst);
        // A signal that came just before was not forwarded.
        if self.is_interrupted() {
            self.forward(Signal::SIGTERM);
        }
        Ok(child)
    }

    /// Whether this program was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::SeqCst)
    }

    fn forward(&self, signal: Signal) {
        let group = self.group.load(Ordering::SeqCst);
        if group != NONE {
            // Fails where the group has ended already.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}
