//! `make services`: a private PostgreSQL and RabbitMQ for development, until Ctrl+C.
//!
//! Usage: `services [DIRECTORY]`; the data stay in DIRECTORY (default `.services`).

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use test_servers::{Error, PostgresOptions, PostgresServer, RabbitMqOptions, RabbitMqServer};
use tokio::signal::unix::{Signal, SignalKind, signal};

const POSTGRES_PORT: u16 = 55_432;
const AMQP_PORT: u16 = 55_672;
const MANAGEMENT_PORT: u16 = 15_672;
const DATABASE: &str = "llm_bench";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let directory = arguments
        .next()
        .map_or_else(|| PathBuf::from(".services"), PathBuf::from);
    if arguments.next().is_some() || directory.as_os_str().as_encoded_bytes().starts_with(b"-") {
        let _ = writeln!(io::stderr(), "usage: services [DIRECTORY]");
        return ExitCode::from(2);
    }
    match serve(&directory).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(directory: &Path) -> Result<(), Error> {
    let mut end = EndSignals::install().map_err(|source| Error::Io {
        what: "handle signals".to_owned(),
        source,
    })?;
    let started = async {
        let (postgres, rabbitmq) = tokio::try_join!(start_postgres(directory), start_rabbitmq(directory))?;
        let database_url = postgres.ensure_database(DATABASE).await?;
        Ok::<_, Error>((postgres, rabbitmq, database_url))
    };
    let (postgres, rabbitmq, database_url) = tokio::select! {
        outcome = started => outcome?,
        () = end.received() => return Ok(()),
    };
    // Fails where the standard output is closed (`services | head`), which is no reason to end.
    let _ = print(&postgres, &rabbitmq, &database_url, directory);
    end.received().await;
    let _ = writeln!(io::stdout(), "# stopping");
    tokio::try_join!(postgres.stop(), rabbitmq.stop()).map(drop)
}

async fn start_postgres(directory: &Path) -> Result<PostgresServer, Error> {
    PostgresServer::start_with(PostgresOptions {
        preferred_port: Some(POSTGRES_PORT),
        directory: Some(directory.join("postgres")),
        ..PostgresOptions::default()
    })
    .await
}

async fn start_rabbitmq(directory: &Path) -> Result<RabbitMqServer, Error> {
    RabbitMqServer::start_with(RabbitMqOptions {
        management: true,
        preferred_port: Some(AMQP_PORT),
        preferred_management_port: Some(MANAGEMENT_PORT),
        directory: Some(directory.join("rabbitmq")),
        ..RabbitMqOptions::default()
    })
    .await
}

/// Prints `export` lines for a shell; everything else as comments.
fn print(
    postgres: &PostgresServer,
    rabbitmq: &RabbitMqServer,
    database_url: &str,
    directory: &Path,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (what, usual, port) in [
        ("PostgreSQL", POSTGRES_PORT, postgres.port()),
        ("RabbitMQ", AMQP_PORT, rabbitmq.port()),
    ] {
        if let Some(port) = port.filter(|port| *port != usual) {
            writeln!(out, "# port {usual} is taken: {what} listens on {port}")?;
        }
    }
    writeln!(out, "export DATABASE_URL={database_url}")?;
    writeln!(out, "export AMQP_URL={}", rabbitmq.amqp_url())?;
    if let Some(url) = rabbitmq.management_url() {
        writeln!(out, "# RabbitMQ management: {url}")?;
    }
    writeln!(out, "# data in {}; Ctrl+C stops both", directory.display())?;
    out.flush()
}

/// The signals of Ctrl+C, `kill` and the end of the terminal.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl EndSignals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
