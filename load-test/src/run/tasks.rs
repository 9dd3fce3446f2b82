use std::panic;

use tokio::task::{JoinError, JoinSet};

/// Waits until all tasks have ended; the panic of a task continues in the caller.
pub(super) async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(joined) = tasks.join_next().await {
        resume_panic(joined);
    }
}

/// The result of a task. Its panic continues in the caller; tasks are never aborted, so there is no other error.
pub(super) fn resume_panic<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}
