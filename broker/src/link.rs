use std::time::Duration;

/// How a link to the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Usable.
    Ready,
    /// Connected, but the broker accepts nothing for now (memory or disk alarm).
    Blocked {
        /// What the broker says.
        reason: String,
    },
    /// Not connected; being rebuilt.
    Down {
        /// The last error.
        reason: String,
    },
}

impl LinkState {
    /// Whether the link is usable.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl std::fmt::Display for LinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Blocked { reason } => write!(f, "blocked by the broker: {reason}"),
            Self::Down { reason } => f.write_str(reason),
        }
    }
}

/// What a link has been through since this process began to use the broker. Both only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Connections that replaced a lost one.
    pub reconnects: u64,
    /// How long the broker accepted nothing over it (memory or disk alarm), up to this moment.
    pub blocked: Duration,
}

/// What `llm-bench doctor` and `/metrics` want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Name and version, such as `RabbitMQ 3.10.8`.
    pub version: String,
    /// Messages that are ready in the queue of batches.
    pub queued: u64,
    /// Messages in the queue of dead letters.
    pub dead: u64,
}
