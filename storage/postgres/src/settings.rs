use std::{fmt, time::Duration};

use sqlx::postgres::PgConnectOptions;

/// What the server is given beyond its own limit before it is taken to be away.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How to reach the database, and how long to wait for it.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Host, port, user, password, database, TLS.
    pub server: PgConnectOptions,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// The most connections held at a time.
    pub max_connections: u32,
    /// How long one attempt waits for a connection, a server that is starting included.
    pub acquire_timeout: Duration,
    /// How long one statement may take. Migrations are exempt, and rebuilds have limits of their own.
    pub statement_timeout: Duration,
    /// How long one statement may wait for a lock. Migrations are exempt; a rebuild asks again.
    pub lock_timeout: Duration,
    /// The limits of a rebuild.
    pub rebuild: RebuildLimits,
    /// How often an operation is tried again after a transient fault.
    pub max_retries: usize,
    /// The wait before the first retry; it doubles with each one, and a random part of it is waited.
    pub retry_delay: Duration,
}

/// What a rebuild may take. The whole takes as long as there are data, so its statements are limited: a server that is frozen
/// or cut off is noticed by the first one that is not over in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildLimits {
    /// How long a statement may take that reads or writes a page of rows.
    pub page: Duration,
    /// How long a statement may take that reads or writes whole tables.
    pub table: Duration,
    /// How long the process may fold what it has read before the server takes it to be frozen or cut off, and gives
    /// its turn to another.
    pub pause: Duration,
}

impl Default for RebuildLimits {
    fn default() -> Self {
        Self {
            page: Duration::from_secs(2 * 60),
            table: Duration::from_secs(60 * 60),
            pause: Duration::from_secs(10 * 60),
        }
    }
}

/// A text that is not a URL of a PostgreSQL server. The text itself is not shown: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a URL of the form postgres://user:password@host:port/database")]
pub struct InvalidUrl;

impl PostgresSettings {
    /// The defaults for a server.
    #[must_use]
    pub fn new(server: PgConnectOptions) -> Self {
        Self {
            server,
            application_name: "llm-bench".to_owned(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
            lock_timeout: Duration::from_secs(10),
            rebuild: RebuildLimits::default(),
            max_retries: 5,
            retry_delay: Duration::from_millis(200),
        }
    }

    /// What one attempt at an operation may take: its waits for a connection and for its statements, and something beyond.
    pub(crate) fn longest_operation(&self) -> Duration {
        self.acquire_timeout + self.statement_timeout + GRACE
    }

    /// The defaults for a server given by its URL.
    ///
    /// # Errors
    /// The text is not such a URL.
    pub fn from_url(url: &str) -> Result<Self, InvalidUrl> {
        // The driver's error may quote the text.
        url.parse().map(Self::new).map_err(|_: sqlx::Error| InvalidUrl)
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("host", &self.server.get_host())
            .field("port", &self.server.get_port())
            .field("database", &self.server.get_database())
            .field("application_name", &self.application_name)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let settings = PostgresSettings::from_url("postgres://me:canary-secret@localhost:1/db").unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
        let refused =
            PostgresSettings::from_url("postgres://me:canary-secret@localhost:port/db").unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains("canary"));
    }
}
