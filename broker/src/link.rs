use std::time::Duration;

/// The state of a link (connection) to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Connected and usable.
    Ready,
    /// Connected, but the broker accepts nothing for now (memory or disk alarm).
    Blocked {
        /// What the broker gave as the reason.
        reason: String,
    },
    /// Not connected. The backend keeps trying to connect.
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

    /// Why the link is not usable; `None` where it is ready.
    #[must_use]
    pub fn unavailable_reason(self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::Blocked { reason } => Some(format!("blocked: {reason}")),
            Self::Down { reason } => Some(reason),
        }
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

/// Counters of a link since the process started to use the broker. Both only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Connections that replaced a lost one.
    pub reconnects: u64,
    /// How long the broker blocked the link (memory or disk alarm), up to this moment.
    pub blocked: Duration,
}

/// The broker's answer to `llm-bench doctor` and `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Name and version, such as `RabbitMQ 3.10.8`.
    pub version: String,
    /// Messages that are ready in the queue of batches.
    pub queued: u64,
    /// Messages that are ready in the queue of dead letters.
    pub dead: u64,
}
