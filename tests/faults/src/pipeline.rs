//! The pipeline under test: both services, on a database and a virtual host of their own.

mod observing;
mod settling;

pub(crate) use observing::{CONSUMED, DEDUPLICATED};
pub(crate) use settling::Expected;

use std::{
    ffi::OsString,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use test_servers::RabbitMqServer;
use tokio::time::Instant;
use url::Url;

use crate::{
    context::FaultContext,
    database::Database,
    monitor::{Api, Monitor},
    process::Process,
};

const KEY: &str = "a-bootstrap-key-of-the-faults";
const POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_secs(1);

/// How the services are run. The default is on loopback, without proxies.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The URL by which the services reach the database, where it is not the server's own.
    pub(crate) database: Option<String>,
    /// The URL by which the services reach the broker, where it is not the server's own.
    pub(crate) amqp: Option<String>,
    /// A command under which the services run, such as `ip netns exec NAME`.
    pub(crate) wrapper: Vec<OsString>,
    /// The address on which the services listen.
    pub(crate) host: IpAddr,
    /// Further settings of both services.
    pub(crate) settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database: None,
            amqp: None,
            wrapper: Vec::new(),
            host: Ipv4Addr::LOCALHOST.into(),
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// Adds a setting of both services.
    #[expect(clippy::needless_pass_by_value, reason = "values are written in place")]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }
}

/// One of the two services, or both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Simulation,
    Benchmark,
    /// Both in the one process of `llm-bench up`, with everything embedded.
    Embedded,
}

impl Service {
    pub(crate) const BOTH: [Self; 2] = [Self::Simulation, Self::Benchmark];

    fn program(self) -> &'static str {
        match self {
            Self::Simulation => "simulation-service",
            Self::Benchmark => "benchmark-service",
            Self::Embedded => "llm-bench",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Simulation | Self::Benchmark => &[],
            Self::Embedded => &["up"],
        }
    }
}

/// A new database and a new virtual host on the servers of the context.
pub(crate) struct PipelineBackends {
    pub(crate) database: Database,
    pub(crate) amqp: String,
    pub(crate) rabbitmq: Arc<RabbitMqServer>,
}

impl PipelineBackends {
    pub(crate) async fn create(context: &mut FaultContext) -> anyhow::Result<Self> {
        let (postgres, rabbitmq) = (context.postgres().await?, context.rabbitmq().await?);
        Ok(Self {
            database: Database::new(postgres.create_database().await?),
            amqp: rabbitmq.create_vhost().await?,
            rabbitmq,
        })
    }

    /// Without servers: a directory for the embedded database, and the queue inside the process.
    pub(crate) fn embedded(directory: &Path) -> Self {
        Self {
            database: Database::embedded(directory),
            // An empty setting counts as not set, and embedded faults ask no broker.
            amqp: String::new(),
            rabbitmq: Arc::new(RabbitMqServer::external(String::new(), None)),
        }
    }
}

/// The running pipeline.
pub(crate) struct Pipeline {
    pub(crate) database: Database,
    pub(crate) rabbitmq: Arc<RabbitMqServer>,
    pub(crate) amqp: String,
    pub(crate) api: Api,
    fault: u8,
    options: Options,
    simulation_address: String,
    running: [Option<Process>; 3],
    watch: Monitor,
}

impl Pipeline {
    /// Starts both services and waits until values are ranked.
    pub(crate) async fn start(
        fault: u8,
        backends: PipelineBackends,
        options: Options,
    ) -> anyhow::Result<Self> {
        let PipelineBackends {
            database,
            amqp,
            rabbitmq,
        } = backends;
        let api = Api::new(format!("http://{}", free_address(options.host)?), KEY)?;
        let mut pipeline = Self {
            watch: Monitor::begin(api.clone(), database.clone()),
            simulation_address: free_address(options.host)?,
            database,
            rabbitmq,
            amqp,
            api,
            fault,
            options,
            running: [const { None }; 3],
        };
        for service in pipeline.services() {
            pipeline.run(*service, &[])?;
        }
        pipeline.wait_until_values_flow().await?;
        Ok(pipeline)
    }

    /// The services of the pipeline.
    fn services(&self) -> &'static [Service] {
        if self.database.is_embedded() {
            &[Service::Embedded]
        } else {
            &Service::BOTH
        }
    }

    /// The virtual host's name.
    pub(crate) fn vhost(&self) -> anyhow::Result<String> {
        let url = Url::parse(&self.amqp)?;
        Ok(match url.path().trim_start_matches('/') {
            "" | "%2f" => "/".to_owned(),
            name => name.to_owned(),
        })
    }

    /// Starts a service that is not running, with further settings.
    pub(crate) fn run(&mut self, service: Service, more: &[(&str, String)]) -> anyhow::Result<()> {
        let process = self.spawn(service, service.arguments(), more)?;
        *self.slot(service) = Some(process);
        Ok(())
    }

    /// Starts another process of the service. The settings `more` override all others.
    pub(crate) fn spawn(
        &self,
        service: Service,
        arguments: &[&str],
        more: &[(&str, String)],
    ) -> anyhow::Result<Process> {
        let options = &self.options;
        let database = options.database.as_deref().unwrap_or(self.database.url());
        let mut environment: Vec<(String, String)> = [
            ("DATABASE_URL", database),
            ("AMQP_URL", options.amqp.as_deref().unwrap_or(&self.amqp)),
            ("API_KEY", self.api.key),
            ("HTTP_ADDR", self.api.url.trim_start_matches("http://")),
            ("SIMULATION_HTTP_ADDR", &self.simulation_address),
            ("SIMULATION_INTERVAL", "0.1"),
            ("NUM_DATA_POINTS", "50"),
            ("RUST_LOG", "info"),
            ("LOG_FORMAT", "pretty"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        environment.extend(options.settings.iter().cloned());
        environment.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let log = self.log(service)?;
        let process = Process::start(service.program(), &options.wrapper, arguments, &environment, &log)?;
        self.watch.process(process.pid());
        Ok(process)
    }

    fn log(&self, service: Service) -> anyhow::Result<File> {
        let folder = logs()?;
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{:02}-{}.log", self.fault, service.program()));
        File::options()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }

    fn slot(&mut self, service: Service) -> &mut Option<Process> {
        &mut self.running[service as usize]
    }

    /// The process of a running service.
    pub(crate) fn process(&mut self, service: Service) -> anyhow::Result<&mut Process> {
        let name = service.program();
        self.slot(service)
            .as_mut()
            .with_context(|| format!("{name} does not run"))
    }

    fn take(&mut self, service: Service) -> anyhow::Result<Process> {
        let name = service.program();
        self.slot(service)
            .take()
            .with_context(|| format!("{name} does not run"))
    }

    /// Kills the service with SIGKILL.
    pub(crate) fn kill(&mut self, service: Service) -> anyhow::Result<()> {
        self.take(service)?.kill()
    }

    /// Stops the service with SIGTERM; it must end in good order.
    pub(crate) async fn stop(&mut self, service: Service) -> anyhow::Result<()> {
        self.take(service)?.stop().await
    }

    /// The exit status of a service that has ended by itself; `None` while it runs.
    pub(crate) fn died(&mut self, service: Service) -> anyhow::Result<Option<ExitStatus>> {
        let ended = self.process(service)?.ended()?;
        if ended.is_some() {
            *self.slot(service) = None;
        }
        Ok(ended)
    }

    /// The number of values in the rankings; 0 while the API does not answer.
    pub(crate) async fn ranked(&self) -> u64 {
        let rankings = self.api.rankings().await;
        rankings.map_or(0, |rows| rows.values().map(|row| row.n).sum())
    }

    /// Waits until more values are ranked than are stored now. Then the whole pipeline works.
    pub(crate) async fn wait_until_values_flow(&self) -> anyhow::Result<()> {
        let stored = std::cell::Cell::new(None);
        self.until("more values are ranked than were stored", async || {
            let Some(before) = stored.get() else {
                stored.set(Some(self.database.stored_values().await?.values().sum()));
                return Ok(false);
            };
            Ok(self.ranked().await > before)
        })
        .await
    }

    /// Waits until more batches are stored than now. Then the producer works.
    pub(crate) async fn wait_until_batches_are_stored(&self) -> anyhow::Result<()> {
        let before = self.database.balance().await?.stored;
        self.until("more batches are stored", async || {
            Ok(self.database.balance().await?.stored > before)
        })
        .await
    }

    /// Waits until the condition holds. A check that fails is repeated, because a server may be unreachable.
    pub(crate) async fn until(
        &self,
        what: &str,
        condition: impl AsyncFn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        until(what, test_patience::patience(), condition).await
    }
}

fn logs() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("fault-logs"))
}

/// Removes the logs of the services of an earlier run.
pub(crate) fn remove_logs() -> anyhow::Result<()> {
    match fs::remove_dir_all(logs()?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing old logs"),
        _ => Ok(()),
    }
}

/// Waits until the condition holds, for at most `patience`.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    condition: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let asked = Instant::now();
        // With a time limit: a frozen server never answers.
        let answer = match tokio::time::timeout(test_patience::patience(), condition()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => "not so".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(elapsed) => elapsed.to_string(),
        };
        if Instant::now() > deadline {
            bail!("waited {patience:?} until {what}; the last answer: {answer}");
        }
        // The checks take at most a quarter of the time, because they share the machine with the services.
        tokio::time::sleep((asked.elapsed() * 3).clamp(POLL, LONGEST_POLL)).await;
    }
}

/// An address with a free port.
pub(crate) fn free_address(host: IpAddr) -> anyhow::Result<String> {
    // A port that is free here is free in another network namespace too, where nothing else listens.
    Ok(format!("{host}:{}", test_servers::free_port()?))
}
