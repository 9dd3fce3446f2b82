//! Fault 26 and a part of 30: the disk of the database is full.

use std::{cell::Cell, time::Duration};

use anyhow::{Context as _, ensure};
use test_servers::{PostgresOptions, PostgresServer};
use tokio::time::Instant;

use crate::{
    context::FaultContext,
    database::Database,
    outcome::FaultOutcome,
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
    small_disk::SmallDisk,
};

/// In MiB: room for the server and some minutes of batches.
const SMALL: usize = 160;
const GROWN: usize = 400;
const GROWN_AGAIN: usize = 800;

/// First the tables cannot grow. Then the server's log cannot grow either, which ends the server.
pub(super) async fn of_the_database(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let lasting = Duration::from_secs(if context.quick { 3 } else { 20 });
    let disk = match SmallDisk::mount(SMALL) {
        Ok(disk) => disk,
        Err(error) => {
            return Ok(FaultOutcome::NotRun(format!(
                "no file system of our own: {error:#}"
            )));
        }
    };
    let (postgres, pipeline) = start_on(&disk, context).await?;

    disk.fill()?;
    let (held, met) = tables_cannot_grow(&pipeline, &disk, lasting).await?;
    disk.grow(GROWN)?;
    let first = pipeline.recovery().await?;

    disk.fill()?;
    log_cannot_grow(&pipeline.database).await?;
    disk.grow(GROWN_AGAIN)?;
    let restarted = start_if_ended(&postgres, &pipeline.database).await?;
    let second = pipeline.recovery().await?;
    let evidence = format!(
        "{held} batches stored while full, {met}; after a full log the server {}",
        if restarted {
            "had to be started again"
        } else {
            "went on by itself"
        }
    );
    pipeline
        .settle_recovered(2, first.max(second), evidence, &Expected::default())
        .await
}

/// Starts a database server with a small log on the disk, and the services on it. The server ends when it is dropped.
async fn start_on(
    disk: &SmallDisk,
    context: &mut FaultContext,
) -> anyhow::Result<(PostgresServer, Pipeline)> {
    const SETTINGS: [(&str, &str); 2] = [("min_wal_size", "32MB"), ("max_wal_size", "48MB")];
    let options = PostgresOptions {
        directory: Some(disk.path().join("postgres")),
        settings: SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..PostgresOptions::default()
    };
    let postgres = PostgresServer::start_with(options).await?;
    let rabbitmq = context.rabbitmq().await?;
    let backends = PipelineBackends {
        database: Database::new(postgres.create_database().await?),
        amqp: rabbitmq.create_vhost().await?,
        rabbitmq,
    };
    let pipeline = Pipeline::start(26, backends, Options::default()).await?;
    Ok((postgres, pipeline))
}

/// Keeps the disk full for a while. Returns how many batches were stored all the same, and how the services failed.
async fn tables_cannot_grow(
    pipeline: &Pipeline,
    disk: &SmallDisk,
    lasting: Duration,
) -> anyhow::Result<(i64, String)> {
    refuses_for_lack_of_space(&pipeline.database).await?;
    let full = Instant::now();
    let stored = pipeline.database.balance().await?.stored;
    let met = services_meet_the_full_disk(pipeline, disk).await?;
    tokio::time::sleep_until(full + lasting).await;
    disk.fill()?;
    refuses_for_lack_of_space(&pipeline.database).await?;
    Ok((pipeline.database.balance().await?.stored - stored, met))
}

/// Keeps the disk full until a service fails, and returns how it failed.
async fn services_meet_the_full_disk(pipeline: &Pipeline, disk: &SmallDisk) -> anyhow::Result<String> {
    const FAILED_TICKS: &str = "llm_bench_simulation_failed_ticks_total";
    const HOLDING: &str = "llm_bench_consumer_holding";
    let failed_before = pipeline.count(Service::Simulation, FAILED_TICKS).await?;
    let suffered = Cell::new((0, 0));
    pipeline
        .until("a service meets the full disk", async || {
            // Files that the server recycles free space for a moment.
            disk.fill()?;
            let failed = pipeline.count(Service::Simulation, FAILED_TICKS).await? - failed_before;
            let holding = pipeline.count(Service::Benchmark, HOLDING).await?;
            suffered.set((failed, holding));
            Ok(failed + holding > 0)
        })
        .await
        .context("I7")?;
    Ok(match suffered.get() {
        (0, _) => "the consumer held batches".to_owned(),
        (failed, 0) => format!("ticks of the simulation given up: {failed}"),
        (failed, _) => format!("ticks of the simulation given up: {failed}, the consumer held batches"),
    })
}

/// Checks that a table of the database cannot grow any more.
pub(super) async fn refuses_for_lack_of_space(database: &Database) -> anyhow::Result<()> {
    /// PostgreSQL's `disk_full`, and SQLite's `SQLITE_FULL`.
    const FULL: [&str; 2] = ["53100", "13"];
    let refused = if database.is_embedded() {
        sqlx::raw_sql("CREATE TABLE too_much AS SELECT zeroblob(10000000)")
            .execute(&mut database.connect_embedded().await?)
            .await
            .map(drop)
    } else {
        sqlx::raw_sql("CREATE TABLE too_much AS SELECT repeat('x', 7000) FROM generate_series(1, 1000)")
            .execute(&mut database.connect().await?)
            .await
            .map(drop)
    };
    let code = match &refused {
        Err(sqlx::Error::Database(error)) => error.code(),
        _ => None,
    };
    ensure!(
        code.as_deref().is_some_and(|code| FULL.contains(&code)),
        "I7: expected a full disk, found {refused:?}"
    );
    Ok(())
}

/// Whether the server's log cannot grow any more.
async fn log_cannot_grow(database: &Database) -> anyhow::Result<()> {
    /// More than a segment of the log.
    const FLOOD: &str =
        "SELECT pg_logical_emit_message(false, 'flood', repeat('x', 1048576)) FROM generate_series(1, 40)";
    let flooded = sqlx::raw_sql(FLOOD).execute(&mut database.connect().await?).await;
    ensure!(flooded.is_err(), "I7: the log had room for a flood");
    Ok(())
}

/// Starts a server that has ended because it could not write its log. Returns whether it had ended.
async fn start_if_ended(postgres: &PostgresServer, database: &Database) -> anyhow::Result<bool> {
    // Times out where the server has ended. A slow server may be restarted without need, which does no harm.
    const PATIENCE: Duration = Duration::from_secs(5);
    let answers = crate::pipeline::until("the database answers", PATIENCE, async || {
        database.now().await.map(|_| true)
    });
    if answers.await.is_ok() {
        return Ok(false);
    }
    // The server has ended already; this records it.
    postgres.crash().await?;
    postgres.start_again().await?;
    Ok(true)
}
