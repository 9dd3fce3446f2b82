//! Limits how long a request may wait for the database.
//!
//! The storage itself retries for much longer, which suits the consumer. A client that had to wait half a minute for a
//! 503 would have given up, and its connection would not be free for others.

use std::{future::Future, time::Duration};

use storage::StorageError;

use crate::problem::Problem;

/// The longest time that one database operation of a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseDeadline(pub(crate) Duration);

impl DatabaseDeadline {
    /// Waits for an operation that changes nothing. The problem after the deadline is 503.
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

    /// Waits for an operation that changes something. If the deadline passes or the connection breaks, it is unknown
    /// whether the change was made. The problem is then 503, and `unknown` tells the client what to do.
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
