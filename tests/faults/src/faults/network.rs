//! Faults 13 to 16: the network between the services and their servers.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::FutureExt;
use rand::RngExt;

use crate::{
    context::FaultContext,
    fault::Fault,
    network_namespace::{NetworkNamespace, PartitionDirection},
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{DEDUPLICATED, Expected, Options, Pipeline, PipelineBackends, Service},
    proxy::{Behaviour, Proxy},
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 13,
        name: "partition: both ways, to the servers, from the servers",
        quick: true,
        inject: |context| partitions(context).boxed_local(),
    },
    Fault {
        number: 14,
        name: "delay 200 ms, 5 % loss, reordering",
        quick: true,
        inject: |context| impaired_line(context).boxed_local(),
    },
    Fault {
        number: 14,
        name: "slow line: 200 ms and stalls, by a proxy",
        quick: true,
        inject: |context| slow_line(context).boxed_local(),
    },
    Fault {
        number: 15,
        name: "connections to both servers reset in mid-frame",
        quick: true,
        inject: |context| resets(context).boxed_local(),
    },
    Fault {
        number: 16,
        name: "confirms lost",
        quick: true,
        inject: |context| lost_confirms(context).boxed_local(),
    },
];

/// A proxy in front of each server.
pub(super) struct Proxies {
    pub(super) database: Proxy,
    pub(super) broker: Proxy,
}

impl Proxies {
    pub(super) async fn start(host: IpAddr, backends: &PipelineBackends) -> anyhow::Result<Self> {
        const POSTGRES_PORT: u16 = 5432;
        const AMQP_PORT: u16 = 5672;
        Ok(Self {
            database: Proxy::start(host, backends.database.url(), POSTGRES_PORT).await?,
            broker: Proxy::start(host, &backends.amqp, AMQP_PORT).await?,
        })
    }

    /// Options by which both services use the proxies.
    pub(super) fn options(&self, backends: &PipelineBackends) -> anyhow::Result<Options> {
        Ok(Options {
            database: Some(self.database.url(backends.database.url())?),
            amqp: Some(self.broker.url(&backends.amqp)?),
            ..Options::default()
        })
    }

    fn set_behaviour(&self, behaviour: Behaviour) {
        self.database.set_behaviour(behaviour);
        self.broker.set_behaviour(behaviour);
    }

    fn faults_injected(&self) -> u64 {
        self.database.faults_injected() + self.broker.faults_injected()
    }
}

impl NetworkNamespace {
    /// Options by which both services run in the namespace and use the proxies.
    fn options(&self, proxies: &Proxies, backends: &PipelineBackends) -> anyhow::Result<Options> {
        Ok(Options {
            wrapper: self.wrapper(),
            host: self.inside(),
            ..proxies.options(backends)?
        })
    }
}

/// Packets are lost silently, in one direction or both. No connection is reset, so only time limits and heartbeats detect it.
async fn partitions(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    // The longer one exceeds the time limit of a storage operation (25 s).
    let length = Duration::from_secs(if context.quick { 5 } else { 40 });
    let namespace = match NetworkNamespace::create() {
        Ok(namespace) => namespace,
        Err(error) => return Ok(FaultOutcome::NotRun(format!("no network namespace: {error:#}"))),
    };
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(namespace.outside(), &backends).await?;
    let mut options = namespace.options(&proxies, &backends)?;
    options.amqp = options.amqp.map(|url| format!("{url}?heartbeat=2"));
    // Few connections, so that a leak of connections shows soon.
    let options = options.with("DATABASE_MAX_CONNECTIONS", 2);
    let pipeline = Pipeline::start(13, backends, options).await?;
    let (mut sent_again, mut slowest) = (Vec::new(), Duration::ZERO);
    for direction in PartitionDirection::ALL {
        let before = namespace.retransmissions()?;
        namespace.partition(direction)?;
        tokio::time::sleep(length).await;
        sent_again.push(namespace.retransmissions()? - before);
        namespace.heal()?;
        slowest = slowest.max(pipeline.recovery().await?);
    }
    for segments in &sent_again {
        ensure_happened(*segments, 1, "segments sent again in a partition")?;
    }
    let evidence = format!("segments sent again by the services, for each way: {sent_again:?}");
    pipeline
        .settle_recovered(3, slowest, evidence, &Expected::default())
        .await
}

/// The kernel delays, loses and reorders packets.
async fn impaired_line(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let namespace = match NetworkNamespace::create() {
        Ok(namespace) => namespace,
        Err(error) => return Ok(FaultOutcome::NotRun(format!("no network namespace: {error:#}"))),
    };
    if let Err(error) = namespace.impair() {
        return Ok(FaultOutcome::NotRun(format!(
            "no netem in this kernel: {error:#}"
        )));
    }
    namespace.repair()?;
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(namespace.outside(), &backends).await?;
    let options = namespace.options(&proxies, &backends)?;
    let pipeline = Pipeline::start(14, backends, options).await?;
    namespace.impair()?;
    tokio::time::sleep(impairment_length(context)).await;
    pipeline.wait_until_values_flow().await?;
    let dropped = namespace.dropped_packets()?;
    namespace.repair()?;
    ensure_happened(dropped, 1, "packets lost")?;
    let evidence = format!("netem dropped {dropped} packets");
    pipeline.settle(1, evidence, &Expected::default()).await
}

/// A proxy delays the stream as packet loss would, for kernels without `netem`. TCP turns a loss into a wait for the
/// retransmission timeout, at least 200 ms and a round trip.
async fn slow_line(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const DELAY: Behaviour = Behaviour::Delay {
        latency: Duration::from_millis(100),
        one_in: 20,
        stall: Duration::from_millis(400),
    };
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(Ipv4Addr::LOCALHOST.into(), &backends).await?;
    let options = proxies.options(&backends)?;
    let pipeline = Pipeline::start(14, backends, options).await?;
    proxies.set_behaviour(DELAY);
    tokio::time::sleep(impairment_length(context)).await;
    pipeline.wait_until_values_flow().await?;
    let stalls = proxies.faults_injected();
    proxies.set_behaviour(Behaviour::Pass);
    ensure_happened(stalls, 10, "stalls")?;
    let evidence = format!("100 ms each way, and {stalls} stalls of 400 ms");
    pipeline.settle(1, evidence, &Expected::default()).await
}

fn impairment_length(context: &FaultContext) -> Duration {
    Duration::from_secs(if context.quick { 8 } else { 60 })
}

/// Connections are reset after a number of bytes that depends on the seed: within handshakes, statements, publishes and
/// acknowledgements.
async fn resets(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LATEST: usize = 6000;
    let rounds = if context.quick { 4 } else { 25 };
    let mut random = context.random(15);
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(Ipv4Addr::LOCALHOST.into(), &backends).await?;
    let options = proxies.options(&backends)?;
    let pipeline = Pipeline::start(15, backends, options).await?;
    for _ in 0..rounds {
        for proxy in [&proxies.broker, &proxies.database] {
            let before = proxy.faults_injected();
            proxy.set_behaviour(Behaviour::ResetAfter(random.random_range(1..LATEST)));
            pipeline
                .until("a connection is reset", async || {
                    Ok(proxy.faults_injected() > before)
                })
                .await?;
            proxy.set_behaviour(Behaviour::Pass);
        }
        pipeline.wait_until_values_flow().await?;
    }
    let evidence = format!(
        "resets: {} of the broker's connections, {} of the database's",
        proxies.broker.faults_injected(),
        proxies.database.faults_injected()
    );
    ensure_happened(proxies.faults_injected(), 2 * rounds, "resets")?;
    pipeline
        .settle(proxies.faults_injected(), evidence, &Expected::default())
        .await
}

/// The broker's confirmations do not reach the producer. The messages are published again and counted once.
async fn lost_confirms(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    /// Part of every message's properties, and of no other frame.
    const PUBLISHED: &[u8] = b"application/json";
    let rounds = if context.quick { 2 } else { 12 };
    let backends = PipelineBackends::create(context).await?;
    let proxies = Proxies::start(Ipv4Addr::LOCALHOST.into(), &backends).await?;
    let producer = [("AMQP_URL", proxies.broker.url(&backends.amqp)?)];
    let mut pipeline = Pipeline::start(16, backends, Options::default()).await?;
    pipeline.stop(Service::Simulation).await?;
    pipeline.run(Service::Simulation, &producer)?;
    pipeline.wait_until_values_flow().await?;
    let deduplicated = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;
    for round in 0..rounds {
        let before = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;
        let faults_injected = proxies.broker.faults_injected();
        if round % 2 == 0 {
            proxies.broker.set_behaviour(Behaviour::LoseReplyTo(PUBLISHED));
        } else {
            proxies.broker.set_behaviour(Behaviour::DropReplies);
        }
        pipeline
            .until("confirms are lost", async || {
                Ok(proxies.broker.faults_injected() > faults_injected)
            })
            .await?;
        let faults_injected = proxies.broker.faults_injected();
        proxies.broker.set_behaviour(Behaviour::Refuse);
        pipeline
            .until("the connection is gone", async || {
                Ok(proxies.broker.faults_injected() > faults_injected)
            })
            .await?;
        proxies.broker.set_behaviour(Behaviour::Pass);
        pipeline.wait_until_values_flow().await?;
        pipeline
            .until("batches come again", async || {
                Ok(pipeline.count(Service::Benchmark, DEDUPLICATED).await? > before)
            })
            .await?;
    }
    let again = pipeline.count(Service::Benchmark, DEDUPLICATED).await? - deduplicated;
    ensure_happened(again, rounds, "batches published again")?;
    pipeline
        .settle(
            rounds,
            format!("{again} batches came again and were counted once"),
            &Expected::default(),
        )
        .await
}
