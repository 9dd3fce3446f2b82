//! The client measures its own error before a run.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use load_test::{
    calibration::{Calibration, calibrate},
    report::text,
    share::load_of,
    verdict::{ErrorLimits, judge_calibration},
};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    options::LoadTest,
    prepare::PreparedRun,
    terminal::{note, print_result},
};
use crate::context::Context;

/// Measures the client under the run's load; `None` with `--no-calibration`.
pub(super) async fn measure(
    options: &LoadTest,
    context: &Context,
    run: &PreparedRun,
    stop: CancellationToken,
) -> anyhow::Result<Option<Calibration>> {
    if options.client.no_calibration {
        return Ok(None);
    }
    note("measuring the client itself ...");
    let (plan, requests) = (load_of(&run.plan, run.share), Arc::clone(&run.requests));
    let (trace, clock) = (run.offsets(), Arc::clone(&context.clock));
    let measuring = spawn_blocking(move || calibrate(&plan, &requests, &trace, clock, stop));
    let calibration = measuring
        .await?
        .context("the client could not measure itself; --no-calibration runs without")?;
    Ok(Some(calibration))
}

/// Prints the result of `--calibrate`.
pub(super) fn print(options: &LoadTest, calibration: Option<&Calibration>) -> anyhow::Result<()> {
    let calibration = calibration.context("no calibration")?;
    if options.results.json {
        print_result(&serde_json::to_string_pretty(calibration)?);
    } else {
        print_result(&text::calibration(calibration));
    }
    let reasons = judge_calibration(calibration, &ErrorLimits::default());
    if !reasons.is_empty() && !options.client.allow_invalid {
        bail!("INVALID: {}", reasons.join(" "));
    }
    Ok(())
}
