//! (a) The throughput from the generator to committed statistics, relative to bare inserts and bare messages one after the other.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use broker::OutgoingMessage;
use outbox::Outbox;
use prometheus::Registry;
use service_runtime::{
    lifecycle::Lifecycle,
    settings::{CommonSettings, Variables},
};
use shared_types::{Clock, MetricBatch, SystemClock};
use storage::{BatchFilter, Storage};
use test_servers::{PostgresServer, RabbitMqServer};

use crate::{bare_pipeline, workload};

const TICKS: usize = 160;
/// Repetitions; the result is the median ratio.
const ROUNDS: usize = 5;

pub(crate) async fn bench(postgres: &PostgresServer, rabbitmq: &RabbitMqServer) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let database = postgres.create_database().await?;
        let vhost = rabbitmq.create_vhost().await?;
        let (ours, batches) = ours(&database, &vhost).await?;
        let messages: Vec<OutgoingMessage> = batches.iter().map(outbox::outgoing_message).collect();
        let inserted = bare_pipeline::insert(&database, &batches).await?;
        let passed = bare_pipeline::publish_and_consume(&vhost, &messages).await?;
        let rate = |took: Duration| batches.len() as f64 / took.as_secs_f64();
        let bare = rate(inserted + passed);
        ratios.push(rate(ours) / bare);
        figures.push(format!(
            "ours={:.0}/s bare={bare:.0}/s bare_insert={:.0}/s bare_broker={:.0}/s",
            rate(ours),
            rate(inserted),
            rate(passed)
        ));
    }
    let median = median_index(&ratios);
    println!(
        "bench pipeline ratio={:.2} {} batches={} values_per_batch={} llms={} metrics={} rounds={ratios:.2?} goal=0.80",
        ratios[median],
        figures[median],
        TICKS * workload::BATCHES_PER_TICK,
        workload::VALUES,
        workload::LLMS,
        workload::METRICS,
    );
    Ok(())
}

fn median_index(ratios: &[f64]) -> usize {
    let mut order: Vec<usize> = (0..ratios.len()).collect();
    order.sort_by(|a, b| ratios[*a].total_cmp(&ratios[*b]));
    order[order.len() / 2]
}

/// Runs the whole pipeline. Returns the time until the last batch was counted, and the batches.
async fn ours(database: &str, vhost: &str) -> anyhow::Result<(Duration, Vec<MetricBatch>)> {
    let variables: HashMap<String, String> = [("DATABASE_URL", database), ("AMQP_URL", vhost)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let settings = CommonSettings::read(&Variables::from_map(variables)?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let storage = backends::storage(&settings.database, Arc::clone(&clock))?;
    let broker = backends::broker(&settings.broker, Arc::clone(&clock))?;
    let (life, metrics) = (Lifecycle::new(), Registry::new());
    let outbox = Outbox::standard(&life, Arc::clone(&storage), broker.publisher(), &metrics)?;
    let simulation = simulation_service::Dependencies {
        storage: Arc::clone(&storage),
        broker: Arc::clone(&broker),
        outbox: outbox.clone(),
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
    };
    let simulation = simulation_service::prepare(&workload::settings()?, &simulation).await?;
    let benchmark = benchmark_service::Dependencies {
        storage: Arc::clone(&storage),
        broker: Arc::clone(&broker),
        outbox,
        clock,
        telemetry: metrics.clone(),
    };
    let anywhere = [("HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned())];
    let benchmark_settings = benchmark_service::Settings::read(&Variables::from_map(anywhere)?)?;
    benchmark_service::Service::build(benchmark_settings, benchmark, &life)?.start();
    while !(broker.publisher().link().is_ready() && broker.consume_link().is_ready()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let expected = (TICKS * workload::BATCHES_PER_TICK) as u64;
    let started = Instant::now();
    for _ in 0..TICKS {
        simulation.tick().await?;
    }
    // Queries to the database would slow down the pipeline.
    while consumed(&metrics) < expected {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = started.elapsed();
    anyhow::ensure!(
        storage.counted_batches().await? == expected,
        "the ledger disagrees"
    );

    let batches = stored(storage.as_ref()).await?;
    drop(simulation);
    life.end();
    life.drained().await?;
    broker.close().await;
    storage.close().await;
    anyhow::ensure!(
        batches.len() as u64 == expected,
        "{} batches are stored, expected {expected}",
        batches.len()
    );
    Ok((took, batches))
}

/// The service's own count of committed batches.
fn consumed(metrics: &Registry) -> u64 {
    let families = metrics.gather();
    let counter = families
        .iter()
        .find(|family| family.name() == "llm_bench_batches_consumed_total");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of batches"
    )]
    counter.map_or(0, |family| {
        family.get_metric()[0].get_counter().get_value() as u64
    })
}

async fn stored(storage: &dyn Storage) -> anyhow::Result<Vec<MetricBatch>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = storage.batches(&BatchFilter::default(), after, 500).await?;
        all.extend(page.batches.into_iter().map(|stored| stored.batch));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}
