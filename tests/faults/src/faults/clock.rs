//! Fault 28: a wrong clock.

use std::path::Path;

use anyhow::{Context as _, ensure};
use futures::FutureExt;
use sqlx::Connection;

use crate::{
    context::FaultContext,
    fault::Fault,
    outcome::FaultOutcome,
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
};

pub(crate) const FAULTS: &[Fault] = &[Fault {
    number: 28,
    name: "clock of one process a day ahead, a day behind",
    quick: true,
    inject: |context| wrong_clocks(context).boxed_local(),
}];

/// The path in Debian's package `libfaketime`.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

async fn wrong_clocks(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        return Ok(FaultOutcome::NotRun(
            "no libfaketime (Debian: apt-get install libfaketime)".to_owned(),
        ));
    };
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(28, backends, Options::default()).await?;
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
            pipeline.wait_until_values_flow().await?;
            let wrong = pipeline.date(service).await?;
            ensure!(right != wrong, "I7: the clock is right: {right}");
            dates.push(wrong);
            pipeline.stop(service).await?;
            pipeline.run(service, &[])?;
            pipeline.wait_until_values_flow().await?;
        }
    }
    let recovered = pipeline.recovery().await?;
    no_window_has_lost(&pipeline).await?;
    let evidence = format!("by their clocks it was {}", dates.join(", "));
    pipeline
        .settle_recovered(dates.len() as u64, recovered, evidence, &Expected::default())
        .await
}

/// Checks the time windows: batches dated up to now are in the window of seven days; batches dated tomorrow enter a window only
/// tomorrow.
async fn no_window_has_lost(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut connection = pipeline.database.connect().await?;
    let measured: i64 = sqlx::query_scalar(
        "SELECT sum(cardinality(data_points))::bigint FROM batches WHERE batch_at <= now()",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    pipeline
        .until("the last seven days hold what was measured in them", async || {
            let within = pipeline.api.rankings_within("7d").await?;
            let shown: u64 = within.values().map(|row| row.n).sum();
            Ok(shown >= measured.cast_unsigned())
        })
        .await
        .context("I1")
}
