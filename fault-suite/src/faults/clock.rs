//! 28: a clock that is wrong.

use std::path::Path;

use anyhow::{Context as _, ensure};
use futures::FutureExt;

use crate::{
    matrix::Fault,
    pipeline::{Expected, Ground, Options, Pipeline, Service},
    servers::Bench,
    verdict::Verdict,
};

pub(crate) const FAULTS: &[Fault] = &[Fault {
    number: 28,
    name: "clock of one process a day ahead, a day behind",
    quick: true,
    inject: |bench| wrong_clocks(bench).boxed_local(),
}];

/// Where Debian's package `libfaketime` puts it.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

async fn wrong_clocks(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        return Ok(Verdict::NotRun(
            "no libfaketime (Debian: apt-get install libfaketime)".to_owned(),
        ));
    };
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(28, ground, Options::default()).await?;
    let mut dates = Vec::new();
    for service in Service::BOTH {
        for shift in ["+1d", "-1d"] {
            let right = pipeline.date(service).await?;
            pipeline.stop(service).await?;
            let faked = [
                ("LD_PRELOAD", library.to_owned()),
                ("FAKETIME", shift.to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ];
            pipeline.run(service, &faked)?;
            pipeline.flows().await?;
            let wrong = pipeline.date(service).await?;
            ensure!(right != wrong, "I7: the clock is right: {right}");
            dates.push(wrong);
            pipeline.stop(service).await?;
            pipeline.run(service, &[])?;
            pipeline.flows().await?;
        }
    }
    let recovered = pipeline.recovery().await?;
    no_window_has_lost(&pipeline).await?;
    let evidence = format!("by their clocks it was {}", dates.join(", "));
    pipeline
        .settle_recovered(dates.len() as u64, recovered, evidence, &Expected::default())
        .await
}

/// Everything was measured within a day of now, so the last seven days hold it all.
async fn no_window_has_lost(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline
        .until("the last seven days hold all values", async || {
            // In this order: values flow.
            let all: u64 = pipeline.ranked().await;
            let within = pipeline.api.rankings_within("7d").await?;
            Ok(all > 0 && within.values().map(|row| row.n).sum::<u64>() >= all)
        })
        .await
        .context("I1")
}
