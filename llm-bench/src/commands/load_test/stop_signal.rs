use anyhow::Context as _;
use service_runtime::lifecycle::Signals;
use tokio_util::sync::CancellationToken;

use super::terminal::note;

/// The exit status of a process that SIGINT ended.
pub(super) const INTERRUPTED: i32 = 130;

/// A token that the first SIGINT or SIGTERM cancels: what has been measured is kept. The second signal ends the process at once.
pub(super) fn listen() -> anyhow::Result<CancellationToken> {
    let mut signals = Signals::listen().context("listening for signals")?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        note("stopping: what is in flight is cancelled; once more to stop at once");
        stopped.cancel();
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}
