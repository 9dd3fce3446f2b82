use std::{sync::Arc, time::Duration};

use anyhow::{anyhow, ensure};
use broker::{Broker, BrokerInfo};
use service_runtime::settings::{BrokerKind, CommonSettings, DatabaseKind, Variables};
use shared_types::{Clock, Invalid, SystemClock};
use storage::Storage;

/// The command line or a setting is wrong: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct UsageError(#[from] pub Invalid);

/// A file, an address or a name on the command line cannot be used: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct WrongInput(pub Box<dyn std::error::Error + Send + Sync>);

/// How long a command waits for a server that it needs: the server may be starting, or busy.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings and the clock of a command.
pub(crate) struct Context {
    pub variables: Variables,
    pub settings: CommonSettings,
    pub clock: Arc<dyn Clock>,
}

impl Context {
    /// Settings from the process's environment, with logs for people who run a command: warnings only, unless
    /// `RUST_LOG` says otherwise.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let variables = Variables::from_process().map_err(UsageError)?;
        let quiet = if variables.is_set("RUST_LOG") {
            variables
        } else {
            variables.with("RUST_LOG", "warn")
        };
        let context = Self::from_variables(quiet)?;
        service_runtime::telemetry::init(&context.settings.log)?;
        Ok(context)
    }

    pub(crate) fn from_variables(variables: Variables) -> anyhow::Result<Self> {
        let settings = CommonSettings::read(&variables).map_err(UsageError)?;
        Ok(Self {
            variables,
            settings,
            clock: Arc::new(SystemClock),
        })
    }

    /// The database, its schema brought up to date.
    pub(crate) async fn storage(&self) -> anyhow::Result<Arc<dyn Storage>> {
        let storage = self.storage_without_migration()?;
        if self.settings.migrate_at_start {
            storage.migrate().await?;
        }
        Ok(storage)
    }

    /// The database, for commands that check or repair what is stored. It must exist: a new one would be empty, and such
    /// a command would find nothing wrong.
    ///
    /// # Errors
    /// The database is embedded and does not exist: most likely the services use another one.
    pub(crate) async fn existing_storage(&self) -> anyhow::Result<Arc<dyn Storage>> {
        if let DatabaseKind::Sqlite { path } = &self.settings.database.kind {
            ensure!(
                path.exists(),
                "there is no database: {} does not exist. Give this command the settings of the services \
                 (DATABASE_URL, POSTGRES_HOST or DATA_DIR); `llm-bench up` makes an embedded database",
                path.display()
            );
        }
        self.storage().await
    }

    /// The database of the settings, for messages.
    pub(crate) fn database_label(&self) -> String {
        match &self.settings.database.kind {
            // Without the URL: if a password is not quoted correctly, any part of the URL may contain a piece of it.
            DatabaseKind::Postgres { .. } => "PostgreSQL".to_owned(),
            DatabaseKind::Sqlite { path } => format!("SQLite, {}", path.display()),
        }
    }

    /// The database, without changing its schema.
    pub(crate) fn storage_without_migration(&self) -> anyhow::Result<Arc<dyn Storage>> {
        Ok(backends::storage(
            &self.settings.database,
            Arc::clone(&self.clock),
        )?)
    }

    /// The broker.
    pub(crate) fn broker(&self) -> anyhow::Result<Arc<dyn Broker>> {
        Ok(backends::broker(&self.settings.broker, Arc::clone(&self.clock))?)
    }

    /// Waits until the broker answers; returns its answer, too.
    ///
    /// # Errors
    /// The broker does not answer before the timeout. The error is the broker's last one, or the state of the link; it
    /// names the queue if one is missing.
    pub(crate) async fn connected_broker(
        &self,
        timeout: Duration,
    ) -> anyhow::Result<(Arc<dyn Broker>, BrokerInfo)> {
        let broker = self.broker()?;
        let mut refused = None;
        let asked = async {
            loop {
                match broker.info().await {
                    Ok(info) => return info,
                    Err(error) => refused = Some(error),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(info) => Ok((broker, info)),
            Err(_elapsed) => {
                let link = broker.publisher().link();
                broker.close().await;
                let why = match refused {
                    Some(error) => anyhow::Error::from(error),
                    None if link.is_ready() => anyhow!("no answer within {} s", timeout.as_secs()),
                    None => anyhow!("{link}"),
                };
                Err(why.context("RabbitMQ is not usable"))
            }
        }
    }

    /// Whether the broker lives only within one process.
    pub(crate) fn embedded_broker(&self) -> bool {
        matches!(self.settings.broker.kind, BrokerKind::InProcess)
    }
}
