//! The one place that knows which backends there are: the URL's scheme selects, everything else sees ports.

mod preparation;

use std::sync::Arc;

use broker::Broker;
use broker_in_process::InProcessBroker;
use broker_rabbitmq::{RabbitMqBroker, RabbitMqSettings};
use service_runtime::settings::{BrokerKind, BrokerSettings, DatabaseKind, DatabaseSettings};
use shared_types::Clock;
use storage::{Storage, StorageError};
use storage_postgres::{PostgresSettings, PostgresStorage};
use storage_sqlite::{Location, SqliteStorage};

pub use preparation::prepare_database;

/// Messages that the in-process broker holds before publishers wait.
const IN_PROCESS_CAPACITY: usize = 1024;

/// Why a backend could not be set up. A server that is merely away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// `DATABASE_URL` or its parts are refused by the driver.
    #[error("DATABASE_URL: {0}")]
    DatabaseUrl(#[from] storage_postgres::InvalidUrl),
    /// The SQLite file cannot be opened.
    #[error("the embedded database cannot be opened")]
    Sqlite(#[source] StorageError),
    /// `AMQP_URL`, its parts or `RABBITMQ_QUEUE` are refused by the client.
    #[error("AMQP_URL or RABBITMQ_QUEUE: {0}")]
    BrokerSettings(#[from] broker_rabbitmq::InvalidSettings),
}

/// The database that the settings name. PostgreSQL may be away: it is connected to when it is first needed.
///
/// # Errors
/// The driver refuses the URL, or the SQLite file cannot be opened.
pub fn storage(settings: &DatabaseSettings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Storage>, BackendError> {
    match &settings.kind {
        DatabaseKind::Postgres { url } => {
            let postgres = PostgresSettings {
                max_connections: settings.max_connections,
                max_retries: settings.max_retries,
                retry_delay: settings.retry_delay,
                ..PostgresSettings::from_url(url.expose())?
            };
            Ok(Arc::new(PostgresStorage::connect(postgres)))
        }
        DatabaseKind::Sqlite { path } => {
            let file = Location::File(path.clone());
            Ok(Arc::new(
                SqliteStorage::open(file, clock).map_err(BackendError::Sqlite)?,
            ))
        }
    }
}

/// The broker that the settings name. RabbitMQ may be away: it is connected to in the background.
///
/// # Errors
/// The client refuses the URL.
pub fn broker(settings: &BrokerSettings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Broker>, BackendError> {
    Ok(match &settings.kind {
        BrokerKind::RabbitMq { url } => Arc::new(RabbitMqBroker::start(RabbitMqSettings::new(
            url.expose(),
            &settings.queue,
        )?)),
        BrokerKind::InProcess => Arc::new(InProcessBroker::with_clock(IN_PROCESS_CAPACITY, clock)),
    })
}
