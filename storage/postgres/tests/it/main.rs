//! The PostgreSQL backend against the suite of all backends, and what is PostgreSQL's alone.

mod faults;
mod reconciliation;
mod schema;
mod silence;
mod time_limits;

use std::sync::Arc;

use sqlx::PgConnection;
use storage::{BoxError, Storage};
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_patience::until;
use test_servers::shared_postgres;

/// Our advisory locks; see `advisory_locks`.
const MAINTENANCE: i64 = (0x4c4c_4d42 << 32) | 1;
const RETENTION: i64 = (0x4c4c_4d42 << 32) | 2;

/// Until so many sessions of this database wait for a lock.
async fn sessions_wait(watch: &mut PgConnection, how_many: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until(&format!("{how_many} sessions wait for a lock"), async || {
        let found = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *watch).await;
        found.expect("a server that answers") == how_many
    })
    .await;
}

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

storage_conformance::conformance_tests!(on_the_shared_server);
