//! A PostgreSQL server: private or external.

mod options;
mod url;

use std::{path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

pub use self::options::PostgresOptions;
use self::url::with_database;
use crate::{
    Error, command::run_to_end, installed_programs::postgresql_programs, ports::free_port_preferring,
    process_set::ProcessSet, random::random_hex, server_home::ServerHome, server_process::ServerProcess,
    server_user::ServerUser,
};

const SERVER: &str = "PostgreSQL";
const VARIABLE: &str = "DATABASE_URL";
/// The administrator. Not `postgres`, so that no test relies on that name.
const USER: &str = "llm_bench";
const START_ATTEMPTS: usize = 3;
/// The time limit of one probe. A server that is not there refuses at once; on a busy machine it answers late.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// A PostgreSQL server: a private one, or an external one that tests only use.
///
/// Dropping a private one ends it and removes its data, unless [`PostgresOptions::directory`] keeps them; that blocks
/// for some tens of milliseconds.
#[derive(Debug)]
pub struct PostgresServer {
    url: String,
    private: Option<PrivatePostgres>,
}

/// Dropped in the order of the fields: first the watchdog ends the processes, then they are reaped.
#[derive(Debug)]
struct PrivatePostgres {
    home: ServerHome,
    process: ServerProcess,
    programs: PathBuf,
    port: u16,
    options: PostgresOptions,
}

impl PostgresServer {
    /// Starts a private server with [`PostgresOptions::default`].
    ///
    /// # Errors
    /// The programs are missing ([`Error::NotInstalled`]), or the server does not come up.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(PostgresOptions::default()).await
    }

    /// Starts a private server that listens on 127.0.0.1 alone (no Unix socket) and asks for a random password.
    ///
    /// # Errors
    /// The errors of [`Self::start`]; [`Error::DirectoryInUse`] where another server runs on the kept directory.
    pub async fn start_with(options: PostgresOptions) -> Result<Self, Error> {
        for _ in 1..START_ATTEMPTS {
            match Self::start_once(options.clone()).await {
                // Another process has taken the port before the server bound it.
                Err(Error::Ended { log_tail, .. }) if log_tail.contains("could not bind") => {}
                outcome => return outcome,
            }
        }
        Self::start_once(options).await
    }

    /// Uses the server at `url` (`postgres://…`, with the right to create databases) of an external server.
    #[must_use]
    pub fn external(url: String) -> Self {
        Self { url, private: None }
    }

    async fn start_once(options: PostgresOptions) -> Result<Self, Error> {
        let programs = postgresql_programs()?;
        let user = ServerUser::for_server(SERVER, &["postgres", "nobody"])?;
        let home = ServerHome::create(user, options.directory.as_deref(), "QUIT")?;
        let port = free_port_preferring(options.preferred_port)?;
        let (password, password_file) = home.password()?;
        let process = ServerProcess::new(
            SERVER,
            home.log(),
            ProcessSet::of_program(home.data(), "postgres"),
        );
        let private = PrivatePostgres {
            home,
            process,
            programs,
            port,
            options,
        };
        if !private.home.data().join("PG_VERSION").exists() {
            private.initialise(password_file).await?;
        }
        let url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres");
        private.launch(&url).await?;
        Ok(Self {
            url,
            private: Some(private),
        })
    }

    /// The administrator's URL of the database `postgres`, or the given URL of an external server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The TCP port of a private server.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.private.as_ref().map(|private| private.port)
    }

    /// Creates an empty database of a new name and gives its URL, so that many tests share one server.
    ///
    /// On an external server the database is not removed; its name starts with `llm_bench_test_`.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn create_database(&self) -> Result<String, Error> {
        let name = format!("llm_bench_test_{}", random_hex::<8>()?);
        // template0, because a connection to the template would block the copy, and template0 allows none.
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await?;
        Ok(with_database(&self.url, &name))
    }

    /// Creates the database `name` unless it is there, and gives its URL.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn ensure_database(&self, name: &str) -> Result<String, Error> {
        let statement = format!(r#"CREATE DATABASE "{}""#, name.replace('"', r#""""#));
        match self.execute(&statement).await {
            Err(Error::Sql { source, .. }) if has_code(&source, "42P04") => {} // it exists
            outcome => {
                outcome?;
            }
        }
        Ok(with_database(&self.url, name))
    }

    /// Terminates the backends of all clients and returns their number.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; the server cannot be reached.
    pub async fn terminate_backends(&self) -> Result<u64, Error> {
        self.private("terminate the backends of")?;
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
        .await
    }

    /// Stops the server in good order and disconnects its clients (`pg_ctl stop -m fast`).
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::WrongState`] where it does not run; it does not end.
    pub async fn stop(&self) -> Result<(), Error> {
        self.private("stop")?.process.end_by("stop", Signal::SIGINT).await
    }

    /// Stops the server without a checkpoint (`pg_ctl stop -m immediate`); the next start recovers from the log.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn crash(&self) -> Result<(), Error> {
        self.private("crash")?
            .process
            .end_by("crash", Signal::SIGQUIT)
            .await
    }

    /// Kills the postmaster and every backend (SIGKILL). The operating system still writes its buffers, so this does not test lost
    /// fsyncs.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn kill(&self) -> Result<(), Error> {
        self.private("kill")?.process.kill().await
    }

    /// Freezes the postmaster and every backend (SIGSTOP): connections stay open, nothing is answered.
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub async fn freeze(&self) -> Result<(), Error> {
        self.private("freeze")?.process.freeze().await
    }

    /// Continues a frozen server (SIGCONT).
    ///
    /// # Errors
    /// The errors of [`Self::stop`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.private("thaw")?.process.thaw()
    }

    /// Starts a stopped, crashed or killed server again, on the same port and data.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; [`Error::WrongState`] where it runs; it does not come up.
    pub async fn start_again(&self) -> Result<(), Error> {
        self.private("start")?.launch(&self.url).await
    }

    /// [`Self::stop`] and [`Self::start_again`].
    ///
    /// # Errors
    /// The errors of these two.
    pub async fn restart(&self) -> Result<(), Error> {
        self.stop().await?;
        self.start_again().await
    }

    fn private(&self, verb: &'static str) -> Result<&PrivatePostgres, Error> {
        self.private.as_ref().ok_or(Error::NotOurs {
            verb,
            variable: VARIABLE,
        })
    }

    async fn execute(&self, statement: &str) -> Result<u64, Error> {
        let refused = |source| Error::Sql {
            statement: statement.to_owned(),
            source,
        };
        let mut connection = connect(&self.url).await?;
        let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await;
        close(connection).await;
        Ok(outcome.map_err(refused)?.rows_affected())
    }
}

impl PrivatePostgres {
    /// Creates an empty database cluster, without fsyncs, because there are no data yet.
    async fn initialise(&self, password_file: PathBuf) -> Result<(), Error> {
        let initdb = self.programs.join("initdb");
        let mut command = self.home.command(&initdb, &self.home.path(""));
        command
            .args([
                "--username",
                USER,
                "--auth",
                "password",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
            ])
            .args(["--no-sync", "--no-instructions", "--pgdata"])
            .arg(self.home.data())
            .arg("--pwfile")
            .arg(password_file);
        run_to_end(command, "initdb".to_owned()).await.map(drop)
    }

    /// The server is ready when it accepts the password. Another server may have taken the port.
    async fn launch(&self, url: &str) -> Result<(), Error> {
        let mut command = self
            .home
            .command(&self.programs.join("postgres"), &self.home.path(""));
        command.arg("-D").arg(self.home.data());
        for (name, value) in self.options.server_settings(self.port) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        self.process.launch(command)?;
        self.process
            .wait_until("starting", || accepts_connections(url))
            .await
    }
}

/// A connection for one statement. A pool would belong to the runtime of one test.
async fn connect(url: &str) -> Result<PgConnection, Error> {
    let options: PgConnectOptions = url.parse().map_err(|source| Error::Url {
        variable: VARIABLE,
        source,
    })?;
    options
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|source| Error::Connect { source })
}

async fn accepts_connections(url: &str) -> bool {
    match timeout(PROBE_TIMEOUT, connect(url)).await {
        Ok(Ok(connection)) => {
            close(connection).await;
            true
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn close(connection: PgConnection) {
    // Where the orderly close fails, dropping the connection closes it.
    let _ = connection.close().await;
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|found| found == code)
}
