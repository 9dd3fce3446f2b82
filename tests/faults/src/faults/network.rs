//! 13 to 16: what lies between the services and their servers.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures::FutureExt;
use rand::RngExt;

use crate::{
    fault::Fault,
    namespace::{Cut, Namespace},
    pipeline::{DEDUPLICATED, Expected, Ground, Options, Pipeline, Service},
    proxy::{Behaviour, Proxy},
    servers::Bench,
    verdict::{Verdict, ensure_happened},
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 13,
        name: "partition: both ways, to the servers, from the servers",
        quick: true,
        inject: |bench| partitions(bench).boxed_local(),
    },
    Fault {
        number: 14,
        name: "delay 200 ms, 5 % loss, reordering",
        quick: true,
        inject: |bench| bad_line(bench).boxed_local(),
    },
    Fault {
        number: 14,
        name: "slow line: 200 ms and stalls, by a proxy",
        quick: true,
        inject: |bench| slow_line(bench).boxed_local(),
    },
    Fault {
        number: 15,
        name: "connections to both servers reset in mid-frame",
        quick: true,
        inject: |bench| resets(bench).boxed_local(),
    },
    Fault {
        number: 16,
        name: "confirms lost",
        quick: true,
        inject: |bench| lost_confirms(bench).boxed_local(),
    },
];

/// A proxy before each of the servers.
pub(super) struct Detour {
    pub(super) database: Proxy,
    pub(super) broker: Proxy,
}

impl Detour {
    pub(super) async fn start(host: IpAddr, ground: &Ground) -> anyhow::Result<Self> {
        const POSTGRES_PORT: u16 = 5432;
        const AMQP_PORT: u16 = 5672;
        Ok(Self {
            database: Proxy::start(host, ground.database.url(), POSTGRES_PORT).await?,
            broker: Proxy::start(host, &ground.amqp, AMQP_PORT).await?,
        })
    }

    /// Both services take the detour.
    pub(super) fn options(&self, ground: &Ground) -> anyhow::Result<Options> {
        Ok(Options {
            database: Some(self.database.url(ground.database.url())?),
            amqp: Some(self.broker.url(&ground.amqp)?),
            ..Options::default()
        })
    }

    fn behave(&self, behaviour: Behaviour) {
        self.database.behave(behaviour);
        self.broker.behave(behaviour);
    }

    fn harmed(&self) -> u64 {
        self.database.harmed() + self.broker.harmed()
    }
}

impl Namespace {
    /// Both services in the namespace, their servers by way of the detour.
    fn options(&self, detour: &Detour, ground: &Ground) -> anyhow::Result<Options> {
        Ok(Options {
            wrapper: self.wrapper(),
            host: self.inside(),
            ..detour.options(ground)?
        })
    }
}

/// Packets are lost without a word, one way or both: nobody sees a reset, and all depends on time limits and heartbeats.
async fn partitions(bench: &mut Bench) -> anyhow::Result<Verdict> {
    // The longer one outlasts the time limit of a step of the storage (25 s).
    let length = Duration::from_secs(if bench.quick { 5 } else { 40 });
    let namespace = match Namespace::create() {
        Ok(namespace) => namespace,
        Err(error) => return Ok(Verdict::NotRun(format!("no network namespace: {error:#}"))),
    };
    let ground = Ground::prepare(bench).await?;
    let detour = Detour::start(namespace.outside(), &ground).await?;
    let mut options = namespace.options(&detour, &ground)?;
    options.amqp = options.amqp.map(|url| format!("{url}?heartbeat=2"));
    // Few, so that connections that are never given back are missed soon.
    let options = options.with("DATABASE_MAX_CONNECTIONS", 2);
    let pipeline = Pipeline::start(13, ground, options).await?;
    let (mut sent_again, mut slowest) = (Vec::new(), Duration::ZERO);
    for way in Cut::ALL {
        let before = namespace.sent_again()?;
        namespace.cut(way)?;
        tokio::time::sleep(length).await;
        sent_again.push(namespace.sent_again()? - before);
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

/// A slow line that loses and reorders, by the kernel.
async fn bad_line(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let namespace = match Namespace::create() {
        Ok(namespace) => namespace,
        Err(error) => return Ok(Verdict::NotRun(format!("no network namespace: {error:#}"))),
    };
    if let Err(error) = namespace.impair() {
        return Ok(Verdict::NotRun(format!("no netem in this kernel: {error:#}")));
    }
    namespace.repair()?;
    let ground = Ground::prepare(bench).await?;
    let detour = Detour::start(namespace.outside(), &ground).await?;
    let options = namespace.options(&detour, &ground)?;
    let pipeline = Pipeline::start(14, ground, options).await?;
    namespace.impair()?;
    tokio::time::sleep(length_of_a_bad_line(bench)).await;
    pipeline.flows().await?;
    let dropped = namespace.impaired()?;
    namespace.repair()?;
    ensure_happened(dropped, 1, "packets lost")?;
    let evidence = format!("netem dropped {dropped} packets");
    pipeline.settle(1, evidence, &Expected::default()).await
}

/// What a slow line that loses does to a stream, where the kernel cannot be asked for one. TCP turns a loss into a wait of
/// a retransmission timeout, 200 ms and a round trip at the least.
async fn slow_line(bench: &mut Bench) -> anyhow::Result<Verdict> {
    const DELAY: Behaviour = Behaviour::Delay {
        latency: Duration::from_millis(100),
        one_in: 20,
        stall: Duration::from_millis(400),
    };
    let ground = Ground::prepare(bench).await?;
    let detour = Detour::start(Ipv4Addr::LOCALHOST.into(), &ground).await?;
    let options = detour.options(&ground)?;
    let pipeline = Pipeline::start(14, ground, options).await?;
    detour.behave(DELAY);
    tokio::time::sleep(length_of_a_bad_line(bench)).await;
    pipeline.flows().await?;
    let stalls = detour.harmed();
    detour.behave(Behaviour::Pass);
    ensure_happened(stalls, 10, "stalls")?;
    let evidence = format!("100 ms each way, and {stalls} stalls of 400 ms");
    pipeline.settle(1, evidence, &Expected::default()).await
}

fn length_of_a_bad_line(bench: &Bench) -> Duration {
    Duration::from_secs(if bench.quick { 8 } else { 60 })
}

/// Connections end by a reset after a number of bytes that the seed decides: within handshakes, statements, published and
/// acknowledged messages.
async fn resets(bench: &mut Bench) -> anyhow::Result<Verdict> {
    const LATEST: usize = 6000;
    let rounds = if bench.quick { 4 } else { 25 };
    let mut random = bench.random(15);
    let ground = Ground::prepare(bench).await?;
    let detour = Detour::start(Ipv4Addr::LOCALHOST.into(), &ground).await?;
    let options = detour.options(&ground)?;
    let pipeline = Pipeline::start(15, ground, options).await?;
    for _ in 0..rounds {
        for proxy in [&detour.broker, &detour.database] {
            let before = proxy.harmed();
            proxy.behave(Behaviour::ResetAfter(random.random_range(1..LATEST)));
            pipeline
                .until("a connection is reset", async || Ok(proxy.harmed() > before))
                .await?;
            proxy.behave(Behaviour::Pass);
        }
        pipeline.flows().await?;
    }
    let evidence = format!(
        "resets: {} of the broker's connections, {} of the database's",
        detour.broker.harmed(),
        detour.database.harmed()
    );
    ensure_happened(detour.harmed(), 2 * rounds, "resets")?;
    pipeline
        .settle(detour.harmed(), evidence, &Expected::default())
        .await
}

/// The broker takes messages, and the producer never hears of it: they are published again and counted once.
async fn lost_confirms(bench: &mut Bench) -> anyhow::Result<Verdict> {
    /// In every message's properties, and in no other frame.
    const PUBLISHED: &[u8] = b"application/json";
    let rounds = if bench.quick { 2 } else { 12 };
    let ground = Ground::prepare(bench).await?;
    let detour = Detour::start(Ipv4Addr::LOCALHOST.into(), &ground).await?;
    let producer = [("AMQP_URL", detour.broker.url(&ground.amqp)?)];
    let mut pipeline = Pipeline::start(16, ground, Options::default()).await?;
    pipeline.stop(Service::Simulation).await?;
    pipeline.run(Service::Simulation, &producer)?;
    pipeline.flows().await?;
    let deduplicated = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;
    for round in 0..rounds {
        let before = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;
        let harmed = detour.broker.harmed();
        if round % 2 == 0 {
            detour.broker.behave(Behaviour::LoseReplyTo(PUBLISHED));
        } else {
            detour.broker.behave(Behaviour::DropReplies);
        }
        pipeline
            .until("confirms are lost", async || Ok(detour.broker.harmed() > harmed))
            .await?;
        let harmed = detour.broker.harmed();
        detour.broker.behave(Behaviour::Refuse);
        pipeline
            .until("the connection is gone", async || {
                Ok(detour.broker.harmed() > harmed)
            })
            .await?;
        detour.broker.behave(Behaviour::Pass);
        pipeline.flows().await?;
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
