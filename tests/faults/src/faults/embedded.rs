//! Fault 30: everything in one process, on SQLite.

use std::time::Duration;

use anyhow::ensure;
use futures::FutureExt;
use rand::RngExt;
use sqlx::{Connection, SqliteConnection};

use super::{REJECTED, database_disk_full::refuses_for_lack_of_space, processes::abort_at};
use crate::{
    context::FaultContext,
    database::Database,
    fault::Fault,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
    small_disk::SmallDisk,
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 30,
        name: "SQLite: killed in every phase",
        quick: true,
        inject: |context| deaths(context).boxed_local(),
    },
    Fault {
        number: 30,
        name: "SQLite: file locked by another process",
        quick: true,
        inject: |context| lock(context).boxed_local(),
    },
    Fault {
        number: 30,
        name: "SQLite: disk full, then grown",
        quick: true,
        inject: |context| full_disk(context).boxed_local(),
    },
];

async fn start(directory: &std::path::Path) -> anyhow::Result<Pipeline> {
    let options = Options::default().with("DATA_DIR", directory.display());
    Pipeline::start(30, PipelineBackends::embedded(directory), options).await
}

/// Checks that nothing was rejected, by the counter: dead letters end with the process, and there is no queue to read.
async fn settle(
    pipeline: Pipeline,
    injected: u64,
    recovered: Duration,
    evidence: String,
) -> anyhow::Result<FaultOutcome> {
    let rejected = pipeline.count(Service::Embedded, REJECTED).await?;
    ensure!(rejected == 0, "I3: {rejected} batches were rejected");
    pipeline
        .settle_recovered(injected, recovered, evidence, &Expected::default())
        .await
}

async fn deaths(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LONGEST_LIFE: Duration = Duration::from_millis(1200);
    const POINTS: [(&str, u8); 4] = [
        ("outbox::recorded", 30),
        ("outbox::confirmed", 20),
        ("projection::before_commit", 10),
        ("consumer::committed", 10),
    ];
    let (of_each, at_random) = if context.quick { (2, 10) } else { (25, 100) };
    let mut random = context.random(30);
    let directory = tempfile::tempdir()?;
    let mut pipeline = start(directory.path()).await?;
    for (point, percent) in POINTS {
        abort_at(&mut pipeline, Service::Embedded, point, percent, of_each).await?;
    }
    for _ in 0..at_random {
        tokio::time::sleep(random.random_range(Duration::ZERO..LONGEST_LIFE)).await;
        pipeline.kill(Service::Embedded)?;
        pipeline.run(Service::Embedded, &[])?;
    }
    let evidence = format!(
        "{of_each} aborts at each of {} points, {at_random} times kill -9; seed {}",
        POINTS.len(),
        context.seed()
    );
    let recovered = pipeline.recovery().await?;
    settle(
        pipeline,
        POINTS.len() as u64 * of_each + at_random,
        recovered,
        evidence,
    )
    .await
}

/// Another process locks the file for longer than the busy timeout (5 s).
async fn lock(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let (times, length) = if context.quick {
        (1, Duration::from_secs(7))
    } else {
        (4, Duration::from_secs(20))
    };
    let directory = tempfile::tempdir()?;
    let pipeline = start(directory.path()).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..times {
        let mut other = take_the_file(&pipeline.database).await?;
        let stored = pipeline.database.balance().await?.stored;
        tokio::time::sleep(length).await;
        let held = pipeline.database.balance().await?.stored - stored;
        ensure!(held == 0, "I7: {held} batches were stored in a locked file");
        sqlx::raw_sql("COMMIT").execute(&mut other).await?;
        other.close().await?;
        slowest = slowest.max(pipeline.recovery().await?);
    }
    let evidence = format!("BEGIN EXCLUSIVE of another process for {length:?}; nothing was stored meanwhile");
    settle(pipeline, times, slowest, evidence).await
}

async fn take_the_file(database: &Database) -> anyhow::Result<SqliteConnection> {
    let mut connection = database.connect_embedded().await?;
    sqlx::raw_sql("PRAGMA busy_timeout = 30000; BEGIN EXCLUSIVE")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn full_disk(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let length = Duration::from_secs(if context.quick { 5 } else { 30 });
    let mut size = 16;
    let disk = match SmallDisk::mount(size) {
        Ok(disk) => disk,
        Err(error) => {
            return Ok(FaultOutcome::NotRun(format!(
                "no file system of our own: {error:#}"
            )));
        }
    };
    let times = if context.quick { 1 } else { 4 };
    let pipeline = start(disk.path()).await?;
    let (mut slowest, mut taken) = (Duration::ZERO, 0);
    for _ in 0..times {
        taken += disk.fill()?;
        // The log is reused after each checkpoint, so a few more batches fit before nothing does.
        tokio::time::sleep(length).await;
        taken += disk.fill()?;
        refuses_for_lack_of_space(&pipeline.database).await?;
        size *= 2;
        disk.grow(size)?;
        slowest = slowest.max(pipeline.recovery().await?);
    }
    ensure_happened(taken as u64, times, "bytes taken away")?;
    let evidence = format!("for {length:?} each, nothing could be written (SQLITE_FULL)");
    settle(pipeline, times, slowest, evidence).await
}
