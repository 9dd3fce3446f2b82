//! 1 to 6: the services' processes die.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use anyhow::ensure;
use futures::FutureExt;
use nix::sys::signal::Signal;
use rand::RngExt;
use test_patience::patience;

use crate::{
    fault::Fault,
    pipeline::{DEDUPLICATED, Expected, Ground, Options, Pipeline, Service},
    servers::Bench,
    verdict::{Verdict, ensure_happened},
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 1,
        name: "producer dies after its commit, before publishing",
        quick: true,
        inject: |bench| aborts(bench, 1, Service::Simulation, "outbox::recorded", 30, false).boxed_local(),
    },
    Fault {
        number: 2,
        name: "producer dies after publishing, before the confirm",
        quick: true,
        inject: |bench| aborts(bench, 2, Service::Simulation, "publishing::written", 2, true).boxed_local(),
    },
    Fault {
        number: 3,
        name: "relay dies before it deletes confirmed outbox rows",
        quick: true,
        inject: |bench| aborts(bench, 3, Service::Simulation, "outbox::confirmed", 20, true).boxed_local(),
    },
    Fault {
        number: 4,
        name: "consumer dies before its commit",
        quick: true,
        inject: |bench| {
            aborts(
                bench,
                4,
                Service::Benchmark,
                "projection::before_commit",
                10,
                false,
            )
            .boxed_local()
        },
    },
    Fault {
        number: 5,
        name: "consumer dies after its commit, before the ack",
        quick: true,
        inject: |bench| aborts(bench, 5, Service::Benchmark, "consumer::committed", 10, true).boxed_local(),
    },
    Fault {
        number: 6,
        name: "both services killed -9 at random",
        quick: true,
        inject: |bench| random_kills(bench).boxed_local(),
    },
];

/// A service aborts at one point of its code, in so many of a hundred passes, again and again. `repeats` tells that
/// the point lies after an effect, so that what was under way comes a second time.
async fn aborts(
    bench: &mut Bench,
    fault: u8,
    service: Service,
    point: &str,
    percent: u8,
    repeats: bool,
) -> anyhow::Result<Verdict> {
    let deaths = if bench.quick { 5 } else { 25 };
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(fault, ground, Options::default()).await?;
    // A service that dies begins to count anew.
    let before = match service {
        Service::Benchmark => 0,
        Service::Simulation | Service::Embedded => pipeline.count(Service::Benchmark, DEDUPLICATED).await?,
    };
    abort_at(&mut pipeline, service, point, percent, deaths).await?;
    let mut evidence = format!("aborted at {point}");
    if repeats {
        pipeline
            .until("batches that come again are recognised", async || {
                Ok(pipeline.count(Service::Benchmark, DEDUPLICATED).await? > before)
            })
            .await?;
        evidence += ", duplicates recognised";
    }
    pipeline.settle(deaths, evidence, &Expected::default()).await
}

/// Has a running service killed and then abort so many times in a row at this point.
pub(super) async fn abort_at(
    pipeline: &mut Pipeline,
    service: Service,
    point: &str,
    percent: u8,
    deaths: u64,
) -> anyhow::Result<()> {
    let armed = [("FAILPOINTS", format!("{point}={percent}%return"))];
    pipeline.kill(service)?;
    for _ in 0..deaths {
        pipeline.run(service, &armed)?;
        until_dead(pipeline, service).await?;
    }
    pipeline.run(service, &[])
}

async fn until_dead(pipeline: &mut Pipeline, service: Service) -> anyhow::Result<()> {
    let dies = async {
        loop {
            if let Some(status) = pipeline.died(service)? {
                ensure!(
                    status.signal() == Some(Signal::SIGABRT as i32),
                    "I7: the process ended with {status}, expected its abort"
                );
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience(), dies)
        .await
        .map_err(|_elapsed| anyhow::anyhow!("I7: the process did not abort within {:?}", patience()))?
}

/// Both services are killed in turns that the seed decides, at moments that it decides, while values flow.
async fn random_kills(bench: &mut Bench) -> anyhow::Result<Verdict> {
    const LONGEST_LIFE: Duration = Duration::from_millis(800);
    let kills = if bench.quick { 40 } else { 200 };
    let mut random = bench.random(6);
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(6, ground, Options::default()).await?;
    let (mut killed, mut rounds, mut in_mid_flow) = (0, 0, 0);
    while killed < kills {
        rounds += 1;
        // Half of the time they are to be killed while they start.
        if random.random() {
            pipeline.flows().await?;
            in_mid_flow += 1;
        }
        tokio::time::sleep(random.random_range(Duration::ZERO..LONGEST_LIFE)).await;
        let victims: &[Service] = match random.random_range(0..4) {
            0 => &Service::BOTH,
            1 => &[Service::Simulation],
            _ => &[Service::Benchmark],
        };
        for service in victims {
            pipeline.kill(*service)?;
            killed += 1;
        }
        for service in victims {
            pipeline.run(*service, &[])?;
        }
    }
    ensure_happened(killed, kills, "kills")?;
    ensure_happened(in_mid_flow, rounds / 4, "kills while values flow")?;
    let evidence = format!(
        "seed {}, {in_mid_flow} of {rounds} rounds with values flowing",
        bench.seed()
    );
    pipeline.settle(killed, evidence, &Expected::default()).await
}
