//! The two services as an operator runs them: as processes with settings in their environment.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use tokio::process::{Child, Command};

use test_servers::{PostgresServer, RabbitMqServer};

/// The limit for starting, ending and every other wait.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running benchmark service, with the addresses of the servers that simulations need too.
pub(crate) struct Services {
    pub api: SocketAddr,
    pub benchmark: Child,
    urls: [(&'static str, String); 2],
}

impl Services {
    /// Starts the benchmark service on an empty database.
    pub(crate) async fn start(postgres: &PostgresServer, rabbitmq: &RabbitMqServer) -> anyhow::Result<Self> {
        let urls = [
            ("DATABASE_URL", postgres.create_database().await?),
            ("AMQP_URL", rabbitmq.create_vhost().await?),
        ];
        let api = free_address()?;
        let benchmark = service("benchmark-service")?
            .envs(urls.clone())
            .env("HTTP_ADDR", api.to_string())
            .env("ANONYMOUS_READ", "true")
            .env("RATE_LIMIT_PER_SECOND", "0")
            .spawn()?;
        let services = Self { api, benchmark, urls };
        until("the API answers", || async {
            Ok(reqwest::get(format!("http://{api}/readyz"))
                .await
                .is_ok_and(|answer| answer.status().is_success()))
        })
        .await?;
        Ok(services)
    }

    /// Runs a simulation service with `points` values in a batch until `values` values are ranked. Returns its process.
    pub(crate) async fn simulate(&self, points: u64, interval: &str, values: u64) -> anyhow::Result<Child> {
        let simulation = service("simulation-service")?
            .envs(self.urls.clone())
            .env("SIMULATION_HTTP_ADDR", free_address()?.to_string())
            .env("RANDOM_SEED", "42")
            .env("NUM_DATA_POINTS", points.to_string())
            .env("SIMULATION_INTERVAL", interval)
            .spawn()?;
        until("the values are ranked", || async {
            Ok(self.ranked_values().await? >= values)
        })
        .await?;
        Ok(simulation)
    }

    /// Waits until the rankings do not change any more, because everything that was simulated is counted.
    pub(crate) async fn settled(&self) -> anyhow::Result<u64> {
        const QUIET: Duration = Duration::from_secs(2);
        loop {
            let before = self.ranked_values().await?;
            tokio::time::sleep(QUIET).await;
            if self.ranked_values().await? == before {
                return Ok(before);
            }
        }
    }

    /// The number of values in the rankings over all time.
    async fn ranked_values(&self) -> anyhow::Result<u64> {
        let url = format!("http://{}/api/v1/benchmarks/rankings", self.api);
        let answer: serde_json::Value = reqwest::get(url).await?.error_for_status()?.json().await?;
        let metrics = answer["data"].as_array().context("rankings")?;
        let rows = metrics
            .iter()
            .filter_map(|metric| metric.as_object())
            .flat_map(|metric| metric.values());
        Ok(rows
            .filter_map(|rows| rows.as_array())
            .flatten()
            .filter_map(|row| row["n"].as_u64())
            .sum())
    }

    /// Ends the service.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        end(self.benchmark).await
    }
}

/// Sends SIGTERM and expects an orderly end.
pub(crate) async fn end(mut child: Child) -> anyhow::Result<()> {
    let pid = child.id().context("the process has ended by itself")?;
    let told = Command::new("kill").arg(pid.to_string()).status().await?;
    anyhow::ensure!(told.success(), "SIGTERM could not be sent");
    let status = tokio::time::timeout(TIMEOUT, child.wait())
        .await
        .context("the process does not end")??;
    anyhow::ensure!(status.success(), "the process ended with {status}");
    Ok(())
}

/// An address with a free port.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        test_servers::free_port()?,
    )))
}

/// A program of this build, with an empty environment.
fn service(name: &str) -> anyhow::Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{} is not built; `make bench` builds it",
        path.display()
    );
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

async fn until<F>(what: &str, check: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let polling = async {
        while !check().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    tokio::time::timeout(TIMEOUT, polling)
        .await
        .with_context(|| format!("waited {TIMEOUT:?} until {what}"))?
}
