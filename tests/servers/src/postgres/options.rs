//! How a private PostgreSQL is to run.

use std::path::PathBuf;

/// How a private PostgreSQL is to run. The default is durable and short-lived.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Whether a commit waits for the disk (`fsync`). Off, tests run faster, and a killed server is still consistent;
    /// a killed machine would not be.
    pub fsync: bool,
    /// How many clients may be connected at once.
    pub max_connections: u16,
    /// The TCP port to use where it is free; another one otherwise.
    pub preferred_port: Option<u16>,
    /// A directory that keeps the data beyond the server's life; made where it is missing.
    pub directory: Option<PathBuf>,
    /// More settings of `postgresql.conf`, such as `("deadlock_timeout", "100ms")`. They override the others.
    pub settings: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            max_connections: 200,
            preferred_port: None,
            directory: None,
            settings: Vec::new(),
        }
    }
}

impl PostgresOptions {
    /// As the default, but without waiting for the disk.
    #[must_use]
    pub fn without_fsync() -> Self {
        Self {
            fsync: false,
            ..Self::default()
        }
    }

    pub(super) fn server_settings(&self, port: u16) -> Vec<(String, String)> {
        let fsync = if self.fsync { "on" } else { "off" };
        let ours = [
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
            ("max_connections", self.max_connections.to_string()),
            ("fsync", fsync.to_owned()),
            ("full_page_writes", fsync.to_owned()),
            // Files of the data directory: after a kill -9 nothing stays behind in /dev/shm.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("logging_collector", "off".to_owned()),
        ];
        ours.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(self.settings.iter().cloned())
            .collect()
    }
}
