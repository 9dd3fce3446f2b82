//! `--share`: one share of a run, carried out on its own.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use load_test::{
    plan::Plan,
    report::ReportInputs,
    share,
    share_file::{ShareFile, prompts_digest},
};
use shared_types::Invalid;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{options::LoadTest, prepare::PreparedRun, run::CompletedRun, terminal::note};
use crate::context::{Context, UsageError, WrongInput};

/// The wall clock is read again so often while the start is waited for, because it may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Refuses what a share cannot do on its own, before anything is prepared.
pub(super) fn check(options: &LoadTest, plan: &Plan, now: DateTime<Utc>) -> anyhow::Result<()> {
    let Some(share) = options.sharing.share else {
        return Ok(());
    };
    for (flag, is_given, expected) in [
        (
            "--publish",
            options.results.publish.is_some(),
            "`llm-bench merge --publish` with the results of all shares: one share is not the run",
        ),
        (
            "--ml-repo",
            options.ml_repo.is_some(),
            "a whole run: one share is not the run",
        ),
        (
            "--correctness",
            options.workload.correctness,
            "a whole run: the answers of shares are not merged",
        ),
        (
            "--calibrate",
            options.client.calibrate,
            "either of them: a share measures the client before it sends",
        ),
    ] {
        if is_given {
            let found = format!("--share {share} beside it");
            return Err(UsageError(Invalid::new(flag, found, expected)).into());
        }
    }
    share::check(plan, share.count()).map_err(|error| WrongInput(error.into()))?;
    match options.sharing.start_at {
        Some(start_at) => Ok(until(start_at, now).map(drop)?),
        None => Ok(()),
    }
}

/// Waits for the time at which all shares begin.
///
/// # Errors
/// It has passed, or the wait was stopped.
pub(super) async fn wait_until(
    start_at: DateTime<Utc>,
    context: &Context,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut left = until(start_at, context.clock.now())?;
    note(&format!("ready; sending begins at {}", start_at.to_rfc3339()));
    while !left.is_zero() {
        tokio::select! {
            biased;
            () = stop.cancelled() => bail!("stopped before the run began"),
            () = sleep(left.min(LONGEST_SLEEP)) => {}
        }
        left = until(start_at, context.clock.now()).unwrap_or_default();
    }
    Ok(())
}

fn until(start_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<Duration, UsageError> {
    (start_at - now).to_std().map_err(|_negative| {
        let found = format!(
            "{}, which has passed: it is {}",
            start_at.to_rfc3339(),
            now.to_rfc3339()
        );
        let expected = "a time at which every share is ready, its prompts made and its client measured";
        UsageError(Invalid::new("--start-at", found, expected))
    })
}

/// What the share leaves for the report of the whole run; `None` where this is the whole run.
pub(super) fn file(
    options: &LoadTest,
    prepared: &PreparedRun,
    run: &CompletedRun,
    inputs: &ReportInputs<'_>,
) -> Option<ShareFile> {
    let share = options.sharing.share?;
    let prompts = prompts_digest(prepared.requests.iter().map(|request| &*request.body));
    Some(ShareFile::new(inputs, share, prompts, run.clock))
}
