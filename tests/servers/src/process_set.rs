//! All processes of one server: the one that was started, and its descendants.

use std::{
    fs, io, iter,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The processes of one server, recognised by their working directory.
///
/// Process group and parent do not identify them: PostgreSQL's backends and Erlang's port programs each have a session of their
/// own and outlive a killed parent. But they keep the working directory in which they were started.
#[derive(Clone, Debug)]
pub(crate) struct ProcessSet {
    /// The server's processes run in this directory, and no others do.
    working_directory: PathBuf,
    /// The server's program, for a directory in which other programs may run too.
    program: Option<&'static str>,
}

impl ProcessSet {
    /// Every process whose working directory is `working_directory`.
    pub(crate) fn in_directory(working_directory: PathBuf) -> Self {
        Self {
            working_directory,
            program: None,
        }
    }

    /// Every process whose working directory is `working_directory` and that runs `program`.
    pub(crate) fn of_program(working_directory: PathBuf, program: &'static str) -> Self {
        Self {
            working_directory,
            program: Some(program),
        }
    }

    /// The living processes, without zombies.
    pub(crate) fn living(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new(); // no procfs
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .filter(|(_, process)| self.includes(process))
            .map(|(pid, _)| Pid::from_raw(pid))
            .collect()
    }

    /// Sends `signal` to all processes. Repeats that until no unsignalled process is found, because a process may start another one
    /// meanwhile.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut signalled = Vec::new();
        loop {
            let living = self.living();
            let new: Vec<Pid> = living
                .into_iter()
                .filter(|pid| !signalled.contains(pid))
                .collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                // Fails where the process has ended meanwhile.
                let _ = kill(pid, signal);
                signalled.push(pid);
            }
        }
    }

    /// Whether all processes are stopped. SIGSTOP takes effect a moment after it was sent.
    pub(crate) fn are_stopped(&self) -> bool {
        self.living().into_iter().all(|pid| {
            // `pid (name) state …`; the name may contain spaces and parentheses. A process that is gone counts as stopped.
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|stat| {
                    stat.rsplit_once(')')
                        .map(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
                })
                .unwrap_or(true)
        })
    }

    fn includes(&self, process: &Path) -> bool {
        living_threads(process).any(|thread| {
            let runs_here = fs::read_link(thread.join("cwd")).is_ok_and(|cwd| cwd == self.working_directory);
            runs_here && self.program.is_none_or(|program| runs_program(&thread, program))
        })
    }
}

/// The `/proc` directory of the process, or those of its threads where the first thread has ended: the other threads of a killed
/// process may still hold its listening sockets.
fn living_threads(process: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let is_zombie =
        fs::read_link(process.join("cwd")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    match fs::read_dir(process.join("task")) {
        Ok(threads) if is_zombie => Box::new(threads.filter_map(Result::ok).map(|thread| thread.path())),
        _ => Box::new(iter::once(process.to_owned())),
    }
}

/// An ending process releases its program first, then its shared memory, and its working directory last. So a process with a
/// working directory and without a program still belongs to the server.
fn runs_program(thread: &Path, program: &str) -> bool {
    match fs::read_link(thread.join("exe")) {
        Ok(exe) => exe.file_name().is_some_and(|name| name == program),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
