//! Faults 1 to 6: the services' processes die.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use anyhow::ensure;
use futures::FutureExt;
use nix::sys::signal::Signal;
use rand::RngExt;
use test_patience::patience;

use crate::{
    context::FaultContext,
    fault::Fault,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{DEDUPLICATED, Expected, Options, Pipeline, PipelineBackends, Service},
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 1,
        name: "producer dies after its commit, before publishing",
        quick: true,
        inject: |context| {
            aborts(context, 1, Service::Simulation, "outbox::recorded", 30, false).boxed_local()
        },
    },
    Fault {
        number: 2,
        name: "producer dies after publishing, before the confirm",
        quick: true,
        inject: |context| {
            aborts(context, 2, Service::Simulation, "publishing::written", 2, true).boxed_local()
        },
    },
    Fault {
        number: 3,
        name: "relay dies before it deletes confirmed outbox rows",
        quick: true,
        inject: |context| {
            aborts(context, 3, Service::Simulation, "outbox::confirmed", 20, true).boxed_local()
        },
    },
    Fault {
        number: 4,
        name: "consumer dies before its commit",
        quick: true,
        inject: |context| {
            aborts(
                context,
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
        inject: |context| {
            aborts(context, 5, Service::Benchmark, "consumer::committed", 10, true).boxed_local()
        },
    },
    Fault {
        number: 6,
        name: "both services killed -9 at random",
        quick: true,
        inject: |context| random_kills(context).boxed_local(),
    },
];

/// A service aborts again and again at one point of its code, in `percent` of the passes. `repeats`: the point lies after an
/// effect, so the batch is delivered or published a second time.
async fn aborts(
    context: &mut FaultContext,
    fault: u8,
    service: Service,
    point: &str,
    percent: u8,
    repeats: bool,
) -> anyhow::Result<FaultOutcome> {
    let deaths = if context.quick { 5 } else { 25 };
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(fault, backends, Options::default()).await?;
    // The counters of a service restart at 0 with its process.
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

/// Kills a running service, then lets it abort `deaths` times at this point, and starts it again.
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

/// Both services are killed while values flow. The seed decides which service and when.
async fn random_kills(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LONGEST_LIFE: Duration = Duration::from_millis(800);
    let kills = if context.quick { 40 } else { 200 };
    let mut random = context.random(6);
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(6, backends, Options::default()).await?;
    let (mut killed, mut rounds, mut in_mid_flow) = (0, 0, 0);
    while killed < kills {
        rounds += 1;
        // In the other half of the rounds the services are killed while they start.
        if random.random() {
            pipeline.wait_until_values_flow().await?;
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
        context.seed()
    );
    pipeline.settle(killed, evidence, &Expected::default()).await
}
