//! The SQLite backend against the suite of all backends, in a file and in memory, and what is SQLite's alone.

mod file;
mod reconciliation;

use std::sync::Arc;

use shared_types::SystemClock;
use storage::{BoxError, Storage};
use storage_sqlite::{Location, SqliteStorage};
use tempfile::TempDir;

fn open(location: Location) -> storage::Result<Arc<dyn Storage>> {
    Ok(Arc::new(SqliteStorage::open(location, Arc::new(SystemClock))?))
}

mod in_a_file {
    use super::*;

    async fn in_a_file() -> Result<(Arc<dyn Storage>, TempDir), BoxError> {
        let directory = TempDir::new()?;
        let storage = open(Location::File(directory.path().join("llm-bench.db")))?;
        Ok((storage, directory))
    }

    storage_conformance::conformance_tests!(in_a_file);
}

mod in_memory {
    use super::*;

    async fn in_memory() -> Result<(Arc<dyn Storage>, ()), BoxError> {
        Ok((open(Location::Ephemeral)?, ()))
    }

    storage_conformance::conformance_tests!(in_memory);
}
