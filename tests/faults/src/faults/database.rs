//! Faults 23 to 27: the database.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use futures::FutureExt;
use nix::sys::signal::Signal;
use rand::RngExt;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::{database_disk_full, network::Proxies};
use crate::{
    context::FaultContext,
    database::Database,
    fault::Fault,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{DEDUPLICATED, Expected, Options, Pipeline, PipelineBackends, Service},
    proxy::Behaviour,
};

/// The application name of the services' connections. The connections of this program have none.
const SERVICES: &str = "llm-bench";

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 23,
        name: "services' database backends terminated in a loop",
        quick: true,
        inject: |context| terminations(context).boxed_local(),
    },
    Fault {
        number: 24,
        name: "database crashed and killed -9",
        quick: true,
        inject: |context| crashes(context).boxed_local(),
    },
    Fault {
        number: 25,
        name: "replies to COMMIT lost",
        quick: true,
        inject: |context| lost_commits(context).boxed_local(),
    },
    Fault {
        number: 26,
        name: "database disk full, then grown",
        quick: true,
        inject: |context| database_disk_full::of_the_database(context).boxed_local(),
    },
    Fault {
        number: 27,
        name: "statistics' rows, then each table locked by others",
        quick: true,
        inject: |context| stalls(context).boxed_local(),
    },
    Fault {
        number: 27,
        name: "deadlocks",
        quick: true,
        inject: |context| deadlocks(context).boxed_local(),
    },
    Fault {
        number: 27,
        name: "consumer frozen in mid-transaction",
        quick: false,
        inject: |context| frozen_holder(context).boxed_local(),
    },
];

async fn terminations(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LONGEST_PAUSE: Duration = Duration::from_millis(400);
    let rounds = if context.quick { 25 } else { 150 };
    let mut random = context.random(23);
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(23, backends, Options::default()).await?;
    let mut terminated = 0;
    for _ in 0..rounds {
        terminated += terminate_services(&pipeline.database).await?;
        tokio::time::sleep(random.random_range(Duration::ZERO..LONGEST_PAUSE)).await;
    }
    ensure_happened(terminated, rounds, "backends terminated")?;
    let evidence = format!("in {rounds} rounds");
    pipeline.settle(terminated, evidence, &Expected::default()).await
}

/// Terminates the services' backends and returns their number.
async fn terminate_services(database: &Database) -> anyhow::Result<u64> {
    let mut connection = database.connect().await?;
    let terminated: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1",
    )
    .bind(SERVICES)
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    Ok(terminated.into_iter().filter(|ended| *ended).count() as u64)
}

/// Alternates between an immediate stop and a kill -9 of the postmaster, each followed by the database's own recovery.
async fn crashes(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LONGEST_OUTAGE: Duration = Duration::from_secs(3);
    let crashes = if context.quick { 2 } else { 12 };
    let mut random = context.random(24);
    let postgres = context.postgres().await?;
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(24, backends, Options::default()).await?;
    let mut slowest = Duration::ZERO;
    for crash in 0..crashes {
        if crash % 2 == 0 {
            postgres.crash().await?;
        } else {
            postgres.kill().await?;
        }
        tokio::time::sleep(random.random_range(Duration::ZERO..LONGEST_OUTAGE)).await;
        postgres.start_again().await?;
        slowest = slowest.max(pipeline.recovery().await?);
    }
    let evidence = "immediate stops and kill -9 in turns".to_owned();
    pipeline
        .settle_recovered(crashes, slowest, evidence, &Expected::default())
        .await
}

/// The commit takes place, but its reply is lost.
async fn lost_commits(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    /// The consumer's COMMIT, and a parameter of the statement that is the producer's whole transaction.
    const REQUESTS: [&[u8]; 2] = [b"COMMIT", b"simulated"];
    const ALREADY_STORED: &str = r#"llm_bench_outbox_batches_total{outcome="already_stored"}"#;
    let rounds = if context.quick { 6 } else { 40 };
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(Ipv4Addr::LOCALHOST.into(), &backends).await?;
    let options = proxies.options(&backends)?;
    let pipeline = Pipeline::start(25, backends, options).await?;
    let (mut lost, mut counted_before, mut stored_before) = (0, 0, 0);
    // Not every lost reply is the reply to a commit, so there may be more rounds.
    while lost < rounds || ((counted_before == 0 || stored_before == 0) && lost < rounds * 5) {
        let before = proxies.database.faults_injected();
        proxies
            .database
            .set_behaviour(Behaviour::LoseReplyTo(REQUESTS[lost % REQUESTS.len()]));
        pipeline
            .until("a reply is lost", async || {
                Ok(proxies.database.faults_injected() > before)
            })
            .await?;
        proxies.database.set_behaviour(Behaviour::Pass);
        pipeline.wait_until_values_flow().await?;
        lost += 1;
        counted_before = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;
        stored_before = pipeline.count(Service::Simulation, ALREADY_STORED).await?;
    }
    ensure_happened(counted_before, 1, "batches counted by a commit of unknown fate")?;
    ensure_happened(stored_before, 1, "batches stored by a commit of unknown fate")?;
    let evidence =
        format!("commits of unknown fate had counted {counted_before} batches and stored {stored_before}");
    pipeline.settle(lost as u64, evidence, &Expected::default()).await
}

/// Another session locks the rows of the statistics for longer than the services' lock timeout (10 s), and then each table that
/// the services write to; in the full run for longer than the timeout too.
async fn stalls(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let of_a_table = Duration::from_secs(if context.quick { 2 } else { 15 });
    let locks = [
        ("SELECT FROM statistics FOR UPDATE", Duration::from_secs(11)),
        ("LOCK TABLE ledger", of_a_table),
        ("LOCK TABLE batches", of_a_table),
        ("LOCK TABLE outbox", of_a_table),
    ];
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(27, backends, Options::default()).await?;
    let mut session = pipeline.database.connect().await?;
    for (lock, length) in locks {
        let mut transaction = session.begin().await?;
        sqlx::query(lock).execute(&mut *transaction).await?;
        let locked = Instant::now();
        until_services_wait(&pipeline).await.context(lock)?;
        tokio::time::sleep_until(locked + length).await;
        transaction.rollback().await?;
        pipeline.wait_until_values_flow().await?;
    }
    let evidence = format!(
        "the services waited for each; the rows for 11 s, the tables for {} s",
        of_a_table.as_secs()
    );
    pipeline
        .settle(locks.len() as u64, evidence, &Expected::default())
        .await
}

/// Waits until a session of the services waits for a lock.
async fn until_services_wait(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline
        .until("the services wait for a lock", async || {
            let mut connection = pipeline.database.connect().await?;
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = $1
                     AND cardinality(pg_blocking_pids(pid)) > 0",
            )
            .bind(SERVICES)
            .fetch_one(&mut connection)
            .await?;
            connection.close().await?;
            Ok(waiting > 0)
        })
        .await
        .context("I7")
}

/// Another session locks the last row and then the first row of those that the consumer locks from first to last. A session
/// checks for a deadlock once, `deadlock_timeout` after it began to wait. The services' timeout is shorter, so PostgreSQL aborts
/// one of their transactions; the deadlock must exist by then.
async fn deadlocks(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const ONE_ROW: [&str; 2] = [
        "SELECT FROM statistics ORDER BY llm_id DESC, metric_id DESC, source DESC, period DESC LIMIT 1 FOR UPDATE",
        "SELECT FROM statistics ORDER BY llm_id, metric_id, source, period LIMIT 1 FOR UPDATE",
    ];
    let wanted = if context.quick { 2 } else { 20 };
    let backends = PipelineBackends::create(context).await?;
    let mut session = backends.database.connect().await?;
    sqlx::raw_sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''2s''', current_database()); END $$;
         SET deadlock_timeout = '1min'",
    )
    .execute(&mut session)
    .await?;
    let pipeline = Pipeline::start(27, backends, Options::default()).await?;
    let mut deadlocks = 0;
    for _ in 0..wanted * 10 {
        let mut transaction = session.begin().await?;
        sqlx::query(ONE_ROW[0]).execute(&mut *transaction).await?;
        until_services_wait(&pipeline).await?;
        sqlx::query(ONE_ROW[1]).execute(&mut *transaction).await?;
        transaction.rollback().await?;
        // Otherwise a backlog would lengthen the recovery. Meanwhile the server updates its statistics.
        pipeline.wait_until_values_flow().await?;
        deadlocks = deadlocks_of(&pipeline.database).await?;
        if deadlocks >= wanted {
            break;
        }
    }
    ensure_happened(deadlocks, wanted, "deadlocks")?;
    let evidence = "pg_stat_database.deadlocks; the victims were the services' sessions".to_owned();
    pipeline.settle(deadlocks, evidence, &Expected::default()).await
}

async fn deadlocks_of(database: &Database) -> anyhow::Result<u64> {
    let mut connection = database.connect().await?;
    let deadlocks: i64 =
        sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&mut connection)
            .await?;
    connection.close().await?;
    Ok(deadlocks.cast_unsigned())
}

/// A consumer is frozen while it holds row locks, like a machine that has lost its network. The consumer that takes over must not
/// wait for it.
async fn frozen_holder(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(27, backends, Options::default()).await?;
    let mut observer = pipeline.database.connect().await?;
    freeze_in_transaction(&mut pipeline, &mut observer).await?;
    let address = crate::pipeline::free_address(Ipv4Addr::LOCALHOST.into())?;
    let successor = pipeline.spawn(Service::Benchmark, &[], &[("HTTP_ADDR", address)])?;
    let mark = pipeline.database.now().await?;
    crate::pipeline::until(
        "the successor counts",
        crate::outcome::RECOVERY_LIMIT,
        async || Ok(pipeline.database.uncounted_before(&mark).await? == 0),
    )
    .await
    .context("I4: while a frozen consumer holds locks")?;
    pipeline.process(Service::Benchmark)?.signal(Signal::SIGCONT)?;
    let recovered = pipeline.recovery().await?;
    successor.stop().await?;
    pipeline
        .settle_recovered(
            1,
            recovered,
            "its session was idle in a transaction".to_owned(),
            &Expected::default(),
        )
        .await
}

/// Freezes the consumer again and again until it happens to hold locks.
async fn freeze_in_transaction(pipeline: &mut Pipeline, observer: &mut PgConnection) -> anyhow::Result<()> {
    const TRIES: usize = 2000;
    const HOLDING: &str = "SELECT count(*) FROM pg_stat_activity a WHERE datname = current_database()
        AND state = 'idle in transaction' AND query LIKE '%FOR UPDATE OF s%'";
    for _ in 0..TRIES {
        let benchmark = pipeline.process(Service::Benchmark)?;
        benchmark.signal(Signal::SIGSTOP)?;
        // The server has finished running statements by then.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let holding: i64 = sqlx::query_scalar(HOLDING).fetch_one(&mut *observer).await?;
        if holding > 0 {
            return Ok(());
        }
        benchmark.signal(Signal::SIGCONT)?;
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    anyhow::bail!("I7: the consumer never held locks when it was frozen")
}
