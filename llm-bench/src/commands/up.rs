use std::net::SocketAddr;

use anyhow::Context as _;
use benchmark_service::auth::ApiKey;
use benchmark_service::{RateLimit, Service as BenchmarkService, Settings as BenchmarkSettings};
use service_runtime::{
    lifecycle::Signals,
    settings::{DatabaseKind, Variables},
    telemetry,
};
use shared_types::Invalid;
use simulation_service::{Service as SimulationService, SimulationSettings};
use storage::{Scope, Storage};
use tempfile::TempDir;

use super::keys;
use crate::{
    assembly::Assembly,
    cli::Up,
    context::{Context, UsageError},
    pepper::pepper,
    say::say,
};

/// The settings of both services, with the options of `up` applied.
struct UpSettings {
    context: Context,
    simulation: Option<SimulationSettings>,
    benchmark: BenchmarkSettings,
    /// The temporary data directory of `--ephemeral`; removed when this is dropped.
    _ephemeral: Option<TempDir>,
}

pub(crate) async fn run(options: Up) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("listening for signals")?;
    let mut settings = read_settings(&options)?;
    telemetry::init(&settings.context.settings.log)?;
    let storage = settings.context.storage_without_migration()?;
    let seed = &settings.benchmark.registry_seed;
    let (migrate, clock) = (
        settings.benchmark.migrate_at_start,
        settings.context.clock.as_ref(),
    );
    tokio::select! {
        biased;
        () = signals.next() => return Ok(()),
        prepared = backends::prepare_database(storage.as_ref(), migrate, seed, clock) => prepared?,
    }
    let first_key = open_to_loopback(&mut settings, storage.as_ref()).await?;

    let assembly = Assembly::of(&settings.context, storage)?;
    let benchmark = BenchmarkService::build(
        settings.benchmark.clone(),
        assembly.for_benchmark(),
        &assembly.life,
    )?;
    let url = format!("http://{}", benchmark.addr());
    benchmark.start();
    if let Some(settings) = settings.simulation.clone() {
        let life = &assembly.life;
        SimulationService::build(settings, assembly.for_simulation(), life)?.start(life);
    }
    announce(&settings, &url, first_key.as_ref());

    let grace = settings.context.settings.shutdown_grace;
    assembly.life.until_signalled(signals, grace).await;
    assembly.end().await?;
    say!("stopped; everything that was under way is stored");
    Ok(())
}

/// The variables that name a server; the other variables of a server have no effect without these.
const SERVERS: [&str; 4] = ["DATABASE_URL", "POSTGRES_HOST", "AMQP_URL", "RABBITMQ_HOST"];
/// The variables that name a database server.
const DATABASES: [&str; 2] = ["DATABASE_URL", "POSTGRES_HOST"];

/// Reads the settings; options of the command line override the environment.
fn read_settings(options: &Up) -> anyhow::Result<UpSettings> {
    let variables = Variables::from_process().map_err(UsageError)?;
    let (mut variables, ephemeral) = with_data_directory(variables, options)?;
    if let Some(port) = options.port {
        variables = variables.with("HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if !variables.is_set("SIMULATION_HTTP_ADDR") && options.port == Some(0) {
        variables = variables.with("SIMULATION_HTTP_ADDR", "127.0.0.1:0");
    }
    let simulation = SimulationSettings::read(&variables).map_err(UsageError)?;
    let benchmark = BenchmarkSettings::read(&variables).map_err(UsageError)?;
    Ok(UpSettings {
        context: Context::from_variables(variables)?,
        simulation: (!options.no_simulation).then_some(simulation),
        benchmark,
        _ephemeral: ephemeral,
    })
}

/// Applies `--ephemeral` and `--data-dir`; returns the temporary directory, if there is one.
fn with_data_directory(variables: Variables, options: &Up) -> anyhow::Result<(Variables, Option<TempDir>)> {
    if options.ephemeral {
        let directory = tempfile::Builder::new().prefix("llm-bench-").tempdir()?;
        let variables = variables
            .without(&SERVERS)
            .with("DATA_DIR", directory.path().display())
            // A new database has no schema, and no other process can migrate it.
            .with("MIGRATE_AT_START", true);
        return Ok((variables, Some(directory)));
    }
    let Some(directory) = &options.data_dir else {
        return Ok((variables, None));
    };
    if let Some(name) = DATABASES.into_iter().find(|name| variables.is_set(name)) {
        let found = format_args!("{name} set as well");
        let expected = "one of the two, since the option places the embedded database";
        return Err(UsageError(Invalid::new("--data-dir", found, expected)).into());
    }
    Ok((variables.with("DATA_DIR", directory.display()), None))
}

/// With the embedded database and a loopback address, reading needs no key and there is no rate limit, unless the
/// settings say otherwise. The first start makes a key for writing.
async fn open_to_loopback(
    settings: &mut UpSettings,
    storage: &dyn Storage,
) -> anyhow::Result<Option<ApiKey>> {
    let embedded = matches!(
        settings.context.settings.database.kind,
        DatabaseKind::Sqlite { .. }
    );
    if !embedded || !settings.benchmark.http_addr.ip().is_loopback() {
        return Ok(None);
    }
    let variables = &settings.context.variables;
    if !variables.is_set("ANONYMOUS_READ") {
        settings.benchmark.access.anonymous_read = true;
    }
    if !variables.is_set("RATE_LIMIT_PER_SECOND") {
        settings.benchmark.rate_limit = RateLimit::Off;
    }
    settings.benchmark.access.pepper = Some(pepper(&settings.context)?);
    if settings.benchmark.access.bootstrap_key.is_some() || !storage.api_keys().await?.is_empty() {
        return Ok(None);
    }
    let name = "made at the first start".to_owned();
    Ok(Some(
        keys::create(storage, &settings.context, name, Scope::Write, None).await?,
    ))
}

fn announce(settings: &UpSettings, url: &str, first_key: Option<&ApiKey>) {
    let database = match &settings.context.settings.database.kind {
        DatabaseKind::Sqlite { path } => path.display().to_string(),
        DatabaseKind::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    say!("llm-bench {} serves", env!("CARGO_PKG_VERSION"));
    say!("  dashboard  {url}/");
    say!("  API docs   {url}/docs");
    say!("  metrics    {url}/metrics");
    say!("  data       {database}");
    match &settings.simulation {
        Some(settings) => say!(
            "  simulation every {:?}, {} values a batch",
            settings.interval,
            settings.data_points
        ),
        None => say!("  simulation off"),
    }
    if let Some(key) = first_key {
        say!(
            "  key        {}  (may write; shown this once, `llm-bench keys` makes more)",
            key.expose()
        );
    }
    say!("\n  curl {url}/api/v1/rankings/ttft\n\nCtrl+C stops it.");
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn servers() -> Variables {
        let set = [
            ("DATABASE_URL", "postgres://u:p@elsewhere:1/d"),
            ("POSTGRES_HOST", "elsewhere"),
            ("AMQP_URL", "amqp://u:p@elsewhere"),
            ("RABBITMQ_HOST", "elsewhere"),
            ("MIGRATE_AT_START", "false"),
        ];
        Variables::from_map(set.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
    }

    fn options(arguments: &[&str]) -> Up {
        let command_line = ["llm-bench", "up"].into_iter().chain(arguments.iter().copied());
        match Cli::try_parse_from(command_line).unwrap().command {
            Command::Up(options) => options,
            other => panic!("expected up, found {other:?}"),
        }
    }

    #[test]
    fn ephemeral_embeds_everything_whatever_the_environment_says() {
        let (variables, directory) = with_data_directory(servers(), &options(&["--ephemeral"])).unwrap();
        let context = Context::from_variables(variables).unwrap();
        let DatabaseKind::Sqlite { path } = &context.settings.database.kind else {
            panic!("expected the embedded database")
        };
        assert!(path.starts_with(directory.unwrap().path()));
        assert!(context.embedded_broker() && context.settings.migrate_at_start);
    }

    #[test]
    fn a_data_directory_beside_a_database_elsewhere_is_wrong_usage() {
        let options = options(&["--data-dir", "/data"]);
        for (removed, left) in [
            ("POSTGRES_HOST", "DATABASE_URL"),
            ("DATABASE_URL", "POSTGRES_HOST"),
        ] {
            let refused = with_data_directory(servers().without(&[removed]), &options).unwrap_err();
            assert!(refused.is::<UsageError>());
            assert_eq!(
                refused.to_string(),
                format!(
                    "--data-dir: found {left} set as well, expected one of the two, since the option places the \
                     embedded database"
                )
            );
        }
        let (variables, _) = with_data_directory(servers().without(&DATABASES), &options).unwrap();
        assert_eq!(variables.text("DATA_DIR").unwrap().as_deref(), Some("/data"));
    }
}
