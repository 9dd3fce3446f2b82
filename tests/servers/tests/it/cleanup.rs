//! No process and no file is left behind, however the owner ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use test_patience::until;
use test_servers::{PostgresOptions, PostgresServer};

use crate::processes::running_below;

/// The `services` program in a process of its own, with all its files below one directory.
struct Services {
    root: TempDir,
    process: Child,
}

impl Services {
    /// Starts the program and waits until both servers are up.
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let temporary_files = root.path().join("tmp");
        fs::create_dir(&temporary_files).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_services"))
            .arg(root.path().join("data"))
            .env("TMPDIR", &temporary_files)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        assert!(
            lines.any(|line| line.starts_with("export AMQP_URL=amqp://")),
            "the servers did not come up"
        );
        // The rest of the output is read too, because a closed pipe would be another reason to end.
        std::thread::spawn(move || lines.for_each(drop));
        Self { root, process }
    }

    fn servers(&self) -> Vec<(i32, PathBuf)> {
        running_below(self.root.path())
    }

    fn temporary_files(&self) -> usize {
        fs::read_dir(self.root.path().join("tmp")).unwrap().count()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program_of(process: &Path) -> String {
    let program = fs::read_link(process.join("exe")).unwrap_or_default();
    program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[tokio::test]
async fn kill_9_of_the_owner_ends_even_frozen_servers() {
    let mut services = Services::start();
    let servers = services.servers();
    let programs: Vec<String> = servers.iter().map(|(_, process)| program_of(process)).collect();
    for program in ["postgres", "beam.smp", "epmd"] {
        assert!(
            programs.iter().any(|running| running == program),
            "{program} is not among {programs:?}"
        );
    }
    for (pid, _) in &servers {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
    }
    services.signal(Signal::SIGKILL);
    services.process.wait().unwrap();
    let began = Instant::now();
    until("all servers are gone", async || services.servers().is_empty()).await;
    println!(
        "{} processes gone {:?} after kill -9",
        servers.len(),
        began.elapsed()
    );
    until("temporary files are gone", async || {
        services.temporary_files() == 0
    })
    .await;
    assert!(
        services
            .root
            .path()
            .join("data/postgres/data/PG_VERSION")
            .exists(),
        "kept data must be kept"
    );
}

#[tokio::test]
async fn ctrl_c_stops_the_services_in_good_order() {
    let mut services = Services::start();
    services.signal(Signal::SIGINT);
    let status = services.process.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(services.servers(), []);
    assert_eq!(services.temporary_files(), 0);
    let postmaster_pid = services.root.path().join("data/postgres/data/postmaster.pid");
    assert!(!postmaster_pid.exists(), "PostgreSQL did not end in good order");
}

#[tokio::test]
async fn a_panic_ends_the_server() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async move {
        let server = PostgresServer::start_with(PostgresOptions::without_fsync())
            .await
            .unwrap();
        tell.send(server.port().unwrap()).unwrap();
        panic!("as a failing test does");
    });
    let port = told.await.unwrap();
    assert!(test.await.unwrap_err().is_panic());
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
        "it still listens"
    );
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = PostgresOptions {
        directory: Some(root.path().join("kept")),
        ..PostgresOptions::without_fsync()
    };
    let data = root.path().join("kept/data");
    let start = tokio::spawn(PostgresServer::start_with(options));
    until("initdb or the server runs", async || {
        !running_below(&data).is_empty()
    })
    .await;
    start.abort();
    assert!(
        start.await.is_err_and(|error| error.is_cancelled()),
        "it was already up"
    );
    until("all is gone", async || running_below(&data).is_empty()).await;
}
