//! How long a request may wait for the database.
//!
//! The storage tries again by itself for much longer, which suits the consumer and not a client: one that waits half a
//! minute for a 503 has long given up, and its connection is lost to others.

use std::{future::Future, time::Duration};

use storage::StorageError;

use crate::problem::Problem;

/// How long one step of a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseDeadline(pub(crate) Duration);

impl DatabaseDeadline {
    /// Work that changes nothing; past the deadline 503.
    pub(super) async fn read<T>(
        self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.0, work).await {
            Ok(done) => done.map_err(Problem::from),
            Err(_elapsed) => Err(Problem::database_unavailable(
                "the database did not answer in time; send the request again later",
            )),
        }
    }

    /// Work that changes something. If the deadline passes or the connection breaks, nobody knows whether the change was
    /// made. The answer is 503 then, and `unknown` tells the caller what to do.
    pub(super) async fn write<T>(
        self,
        work: impl Future<Output = Result<T, StorageError>>,
        unknown: &'static str,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.0, work).await {
            Ok(Err(error)) if error.is_transient() => {
                Err(Problem::database_unavailable(unknown).caused_by(error))
            }
            Ok(done) => done.map_err(Problem::from),
            Err(_elapsed) => Err(Problem::database_unavailable(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;
    use crate::Timing;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_silent_database_is_answered_at_the_deadline() {
        let deadline = Timing::default().database_deadline;
        let asked = Instant::now();
        let read = DatabaseDeadline(deadline).read(pending::<Result<(), _>>());
        let written =
            DatabaseDeadline(deadline).write(pending::<Result<(), _>>(), "read before sending it again");
        let (read, written) = tokio::join!(read, written);
        assert_eq!(asked.elapsed(), deadline);
        assert!(read.is_err() && written.is_err());
    }
}
