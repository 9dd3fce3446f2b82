//! The PostgreSQL backend against the suite of all backends, and what is PostgreSQL's alone.

mod faults;
mod reconciliation;
mod schema;
mod silence;

use std::sync::Arc;

use storage::{BoxError, Storage};
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_servers::shared_postgres;

/// The URL of an empty database of the shared server.
async fn empty_database() -> Result<String, BoxError> {
    Ok(shared_postgres().await.create_database().await?)
}

fn connect(url: &str) -> Result<PostgresStorage, BoxError> {
    Ok(PostgresStorage::connect(PostgresSettings::from_url(url)?))
}

async fn on_the_shared_server() -> Result<(Arc<dyn Storage>, ()), BoxError> {
    Ok((Arc::new(connect(&empty_database().await?)?), ()))
}

storage::conformance_tests!(on_the_shared_server);
