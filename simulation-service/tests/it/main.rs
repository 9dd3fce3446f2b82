//! The simulation against the embedded backends.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use broker::{Broker, Prefetch, Subscription};
use broker_in_process::InProcessBroker;
use outbox::Outbox;
use prometheus::Registry;
use service_runtime::{lifecycle::Lifecycle, settings::Variables};
use shared_types::{MetricBatch, Source, SystemClock, message};
use simulation_service::{Dependencies, Service, SimulationSettings};
use storage::{Outbox as _, Storage};
use storage_sqlite::{Location, SqliteStorage};
use test_patience::{soon, until};

fn settings(pairs: &[(&str, &str)]) -> SimulationSettings {
    let always = [
        ("SIMULATION_HTTP_ADDR", "127.0.0.1:0"),
        ("RANDOM_SEED", "42"),
        ("NUM_DATA_POINTS", "20"),
    ];
    let all = always
        .iter()
        .chain(pairs)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    SimulationSettings::read(&Variables::from_map(all).unwrap()).unwrap()
}

fn storage() -> Arc<SqliteStorage> {
    Arc::new(SqliteStorage::open(Location::Ephemeral, Arc::new(SystemClock)).unwrap())
}

struct Running {
    life: Lifecycle,
    broker: InProcessBroker,
    deliveries: Box<dyn Subscription>,
    operations: String,
}

fn start(settings: SimulationSettings, storage: &Arc<SqliteStorage>) -> Running {
    let (broker, life) = (InProcessBroker::new(1000), Lifecycle::new());
    let metrics = Registry::new();
    let outbox = Outbox::standard(
        &life,
        Arc::clone(storage) as Arc<dyn Storage>,
        broker.publisher(),
        &metrics,
    )
    .unwrap();
    let dependencies = Dependencies {
        storage: Arc::clone(storage) as Arc<dyn Storage>,
        broker: Arc::new(broker.clone()),
        outbox,
        clock: Arc::new(SystemClock),
        metrics,
    };
    let service = Service::build(settings, dependencies, &life).unwrap();
    let operations = format!("http://{}", service.operations_addr());
    service.start(&life);
    let deliveries = broker.subscribe(Prefetch::messages(100.try_into().unwrap()));
    Running {
        life,
        broker,
        deliveries,
        operations,
    }
}

impl Running {
    async fn receive(&mut self, count: usize) -> Vec<MetricBatch> {
        let mut batches = Vec::new();
        while batches.len() < count {
            let delivery = soon("a batch", self.deliveries.next())
                .await
                .expect("an open broker");
            batches.extend(message::decode(&delivery.body).unwrap());
            delivery.ack().await.unwrap();
        }
        batches.sort_by_key(|batch| (batch.llm().clone(), batch.metric().clone()));
        batches
    }

    async fn stop(mut self) {
        self.life.end();
        // The outbox waits for the confirmation of what is under way.
        let acknowledged = async {
            while let Some(delivery) = self.deliveries.next().await {
                delivery.ack().await.unwrap();
            }
        };
        tokio::select! {
            ended = self.life.drained() => ended.unwrap(),
            () = acknowledged => unreachable!("the broker is open"),
        }
    }
}

#[tokio::test]
async fn the_first_tick_comes_at_start_with_every_llm_and_metric() {
    let storage = storage();
    let mut running = start(settings(&[]), &storage);
    let batches = running.receive(16).await;
    assert!(batches.iter().all(|batch| batch.values().len() == 20));
    let pairs: std::collections::BTreeSet<_> = batches.iter().map(|b| (b.llm(), b.metric())).collect();
    assert_eq!(pairs.len(), 16);
    let provenance = batches[0].provenance();
    assert_eq!(
        (provenance.source, provenance.seed, provenance.sequence),
        (Source::Simulated, Some(42), Some(0))
    );
    running.stop().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_values_in_another_life_and_a_restart_goes_on() {
    let values = |batches: &[MetricBatch]| -> Vec<Vec<u64>> {
        batches
            .iter()
            .map(|batch| batch.values().iter().map(|value| value.to_bits()).collect())
            .collect()
    };
    let (one, other) = (storage(), storage());
    let mut running = start(settings(&[]), &one);
    let first = running.receive(16).await;
    running.stop().await;
    let mut running = start(settings(&[]), &other);
    assert_eq!(values(&first), values(&running.receive(16).await));
    running.stop().await;

    let mut again = start(settings(&[]), &one);
    let second = again.receive(16).await;
    assert!(second.iter().all(|batch| batch.provenance().sequence == Some(1)));
    assert_ne!(values(&first), values(&second));
    again.stop().await;
}

#[tokio::test]
async fn a_seed_that_was_drawn_is_kept() {
    let storage = storage();
    let mut seeds = Vec::new();
    for _ in 0..2 {
        let mut running = start(
            SimulationSettings {
                seed: None,
                ..settings(&[])
            },
            &storage,
        );
        seeds.push(running.receive(16).await[0].provenance().seed.unwrap());
        running.stop().await;
    }
    assert_eq!(seeds[0], seeds[1]);
}

#[tokio::test]
async fn ticks_follow_each_other_and_other_llms_can_be_chosen() {
    let storage = storage();
    let mut running = start(
        settings(&[("SIMULATION_INTERVAL", "0.01"), ("LLM_MODELS_STR", "Mine, Yours")]),
        &storage,
    );
    let batches = running.receive(3 * 8).await;
    let last = batches
        .iter()
        .filter_map(|batch| batch.provenance().sequence)
        .max();
    assert!(last >= Some(2));
    assert!(
        batches
            .iter()
            .all(|batch| ["Mine", "Yours"].contains(&batch.llm().as_str()))
    );
    running.stop().await;
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let storage = storage();
    let mut running = start(settings(&[]), &storage);
    running.receive(16).await;
    let page = |path: &str| {
        let url = format!("{}{path}", running.operations);
        async move {
            let answer = reqwest::get(url).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(page("/healthz").await.0, 200);
    until("the service is ready", async || page("/readyz").await.0 == 200).await;
    let (_, ready) = page("/readyz").await;
    assert!(ready.contains("database") && ready.contains("broker"), "{ready}");
    let (_, metrics) = page("/metrics").await;
    assert!(
        metrics.contains("llm_bench_simulation_overruns_total 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"llm_bench_outbox_batches_total{outcome="stored"} 16"#),
        "{metrics}"
    );

    running.life.leave();
    let (status, ready) = page("/readyz").await;
    assert_eq!(status, 503, "{ready}");
    assert!(ready.contains("about to end"), "{ready}");

    running.broker.close().await;
    let (status, ready) = page("/readyz").await;
    assert_eq!(status, 503, "{ready}");
    assert_eq!(page("/healthz").await.0, 200);
    running.life.end();
    running.life.drained().await.unwrap();
}

#[tokio::test]
async fn a_stop_leaves_nothing_half_done() {
    let storage = storage();
    let mut running = start(settings(&[("SIMULATION_INTERVAL", "0.001")]), &storage);
    running.receive(16).await;
    running.stop().await;
    let depth = storage.outbox_depth().await.unwrap();
    let counted = storage::BatchArchive::batches(storage.as_ref(), &Default::default(), None, 100_000)
        .await
        .unwrap();
    assert!(depth.unpublished <= counted.batches.len() as u64);
    assert_eq!(
        counted.batches.len() % 16,
        0,
        "a tick that had begun was finished"
    );
}
