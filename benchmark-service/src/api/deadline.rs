//! How long a request may wait for the database.
//!
//! The storage tries again by itself for much longer, which suits the consumer and not a client: one that waits half a
//! minute for a 503 has long given up, and its connection is lost to others.

use std::{future::Future, time::Duration};

use storage::StorageError;

use crate::problem::Problem;

/// How long one step of a request may take.
pub(super) const DATABASE_DEADLINE: Duration = Duration::from_secs(5);

/// Work that changes nothing; past the deadline 503.
pub(super) async fn reading<T>(work: impl Future<Output = Result<T, StorageError>>) -> Result<T, Problem> {
    match tokio::time::timeout(DATABASE_DEADLINE, work).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_elapsed) => Err(Problem::database_silent(
            "the database did not answer in time; send the request again later",
        )),
    }
}

/// Work that changes something. Past the deadline, and where the connection broke, the change may have been made all
/// the same: 503, with `unknown` saying what that means.
pub(super) async fn writing<T>(
    work: impl Future<Output = Result<T, StorageError>>,
    unknown: &'static str,
) -> Result<T, Problem> {
    match tokio::time::timeout(DATABASE_DEADLINE, work).await {
        Ok(Err(error)) if error.is_transient() => Err(Problem::database_silent(unknown).caused_by(error)),
        Ok(done) => done.map_err(Problem::from),
        Err(_elapsed) => Err(Problem::database_silent(unknown)),
    }
}

/// What an unknown outcome means for a change of the registry.
pub(super) const REGISTRY_UNKNOWN: &str =
    "the change may or may not have been made; read before sending it again";
