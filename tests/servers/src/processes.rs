//! All processes of one server: the one that was started, and what it started in turn.

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
/// Neither process group nor parent would do: PostgreSQL's backends and Erlang's port programs each lead a session of
/// their own and outlive a killed parent. But they keep the working directory they were started in.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    /// The server's processes run in this very directory, and nobody else's do.
    working_directory: PathBuf,
    /// Where people may enter the directory too, the program that the server consists of.
    program: Option<&'static str>,
}

impl Processes {
    /// Every process whose working directory is `working_directory`.
    pub(crate) fn in_directory(working_directory: PathBuf) -> Self {
        Self {
            working_directory,
            program: None,
        }
    }

    /// As [`Self::in_directory`], but only those that run `program`.
    pub(crate) fn of_program(working_directory: PathBuf, program: &'static str) -> Self {
        Self {
            working_directory,
            program: Some(program),
        }
    }

    /// Those that live now. A zombie is not among them.
    pub(crate) fn living(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new(); // no procfs, no private servers
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .filter(|(_, process)| self.includes(process))
            .map(|(pid, _)| Pid::from_raw(pid))
            .collect()
    }

    /// Sends `signal` to all, again and again until no process is left that has not had it: one may be starting
    /// another meanwhile.
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
                // A process that has ended meanwhile needs no signal.
                let _ = kill(pid, signal);
                signalled.push(pid);
            }
        }
    }

    /// Whether all are frozen. SIGSTOP takes effect a moment after it was sent.
    pub(crate) fn are_stopped(&self) -> bool {
        self.living().into_iter().all(|pid| {
            // pid (name) state …, where the name may hold spaces and parentheses; one that is gone runs no more.
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

/// The process as `/proc` shows it, or its threads where the first of them has ended: the others may still hold the
/// listening sockets of a process that was killed.
fn living_threads(process: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let is_zombie =
        fs::read_link(process.join("cwd")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    match fs::read_dir(process.join("task")) {
        Ok(threads) if is_zombie => Box::new(threads.filter_map(Result::ok).map(|thread| thread.path())),
        _ => Box::new(iter::once(process.to_owned())),
    }
}

/// A process that ends lets go of its program first, then of the memory that it shares with others, and of its working
/// directory last. So one that has a working directory and no program any more is still one of the server's.
fn runs_program(thread: &Path, program: &str) -> bool {
    match fs::read_link(thread.join("exe")) {
        Ok(exe) => exe.file_name().is_some_and(|name| name == program),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
