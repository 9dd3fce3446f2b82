//! `--start-at`: the time at which all shares of a run begin.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use shared_types::Invalid;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::terminal::note;
use crate::context::{Context, UsageError};

/// The wall clock is read again after at most this time, because it may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Waits until the time at which all shares begin.
///
/// # Errors
/// Where it has passed, or the wait was stopped.
pub(super) async fn wait(
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

/// The time until the start.
///
/// # Errors
/// Where it has passed.
pub(super) fn until(start_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<Duration, UsageError> {
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
