use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use test_patience::until_blocking;

/// A program of this workspace. `cargo test --workspace` builds all of them.
pub(crate) fn program(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_llm-bench")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --package {name}`",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("RUST_LOG", "warn")
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

/// A running service; killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
        }
    }

    /// Starts a program and returns the lines of its output. The caller must read all of them, so that the pipe never fills.
    pub(crate) fn speaking(mut command: Command) -> (Self, impl Iterator<Item = String> + Send + 'static) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Self { child }, lines.map_while(Result::ok))
    }

    /// Starts `llm-bench up` and waits until it says where it serves.
    pub(crate) fn up(command: Command) -> (Self, String) {
        let (process, mut lines) = Self::speaking(command);
        let url = lines
            .find_map(|line| {
                line.trim()
                    .strip_prefix("dashboard")
                    .map(|url| url.trim().trim_end_matches('/').to_owned())
            })
            .expect("up says where it serves");
        // Go on reading, so that the process never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        (process, url)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until_blocking("the process to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Sends SIGTERM and asserts exit status 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().code(), Some(0));
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn crash(mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGKILL);
            self.ended();
        }
    }
}

/// An address with a port that is not in use. The port is below the range from which the system assigns ports: otherwise
/// another test could be given it before the service listens.
pub(crate) fn free_address() -> String {
    format!("127.0.0.1:{}", test_servers::free_port().unwrap())
}
