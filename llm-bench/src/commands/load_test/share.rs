//! `--share`: one share of a run, carried out on its own.

use chrono::{DateTime, Utc};
use load_test::{
    plan::Plan,
    report::ReportInputs,
    share,
    share_file::{ClockReadings, ShareFile, prompts_digest},
};
use shared_types::Invalid;

use super::{options::LoadTest, prepare::PreparedRun, start_time};
use crate::context::{UsageError, WrongInput};

/// Refuses options that a share cannot have, before anything is prepared.
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
        Some(start_at) => Ok(start_time::until(start_at, now).map(drop)?),
        None => Ok(()),
    }
}

/// The share's file for `llm-bench merge`; `None` where this is the whole run.
pub(super) fn file(
    options: &LoadTest,
    prepared: &PreparedRun,
    clock: ClockReadings,
    inputs: &ReportInputs<'_>,
) -> Option<Box<ShareFile>> {
    let share = options.sharing.share?;
    let prompts = prompts_digest(
        prepared.requests.iter().map(|request| &*request.body),
        &prepared.offsets(),
    );
    // Boxed: it is some ten KiB, and stays in the command's future.
    Some(Box::new(ShareFile::new(inputs, share, prompts, clock)))
}
