//! The options of a private PostgreSQL server.

use std::path::PathBuf;

/// The options of a private PostgreSQL server. By default it is durable and its data are removed at the end.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Whether a commit waits for the disk (`fsync`). Without it tests run faster. A killed server is still consistent then; only a
    /// crash of the machine would lose data.
    pub fsync: bool,
    /// The largest number of connected clients.
    pub max_connections: u16,
    /// The TCP port, where it is free; else another port is used.
    pub preferred_port: Option<u16>,
    /// A directory that keeps the data after the end of the server. Created where it is missing.
    pub directory: Option<PathBuf>,
    /// Further settings of `postgresql.conf`, such as `("deadlock_timeout", "100ms")`. They override the others.
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
    /// The default without `fsync`.
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
            // In files of the data directory, so that a kill -9 leaves nothing in /dev/shm.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("logging_collector", "off".to_owned()),
        ];
        ours.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .chain(self.settings.iter().cloned())
            .collect()
    }
}
