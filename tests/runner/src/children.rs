//! The programs that this one starts, and the signals that end them all.

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

/// No program runs.
const NONE: i32 = 0;

/// Starts one program at a time, in a process group of its own. A signal that asks this program to end (Ctrl+C, `kill`,
/// the end of the terminal) goes to that group instead, so that the servers outlive the tests and everything is tidied up.
#[derive(Clone)]
pub(crate) struct Children {
    group: Arc<AtomicI32>,
    is_interrupted: Arc<AtomicBool>,
}

impl Children {
    /// Takes the signals from now on, for as long as `runtime` lives.
    pub(crate) fn new(runtime: &Runtime) -> io::Result<Self> {
        let children = Self {
            group: Arc::new(AtomicI32::new(NONE)),
            is_interrupted: Arc::default(),
        };
        let _context = runtime.enter();
        for (kind, passed_on) in [
            (SignalKind::interrupt(), Signal::SIGINT),
            (SignalKind::terminate(), Signal::SIGTERM),
            (SignalKind::hangup(), Signal::SIGHUP),
        ] {
            let mut received = signal(kind)?;
            let children = children.clone();
            runtime.spawn(async move {
                while received.recv().await.is_some() {
                    children.is_interrupted.store(true, Ordering::SeqCst);
                    children.pass_on(passed_on);
                }
            });
        }
        Ok(children)
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        self.group.store(child.id().cast_signed(), Ordering::SeqCst);
        // A signal that came just before found no group.
        if self.is_interrupted() {
            self.pass_on(Signal::SIGTERM);
        }
        Ok(child)
    }

    /// Whether this program was asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::SeqCst)
    }

    fn pass_on(&self, signal: Signal) {
        let group = self.group.load(Ordering::SeqCst);
        if group != NONE {
            // One that has ended already needs no signal.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}
