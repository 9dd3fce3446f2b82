//! When the rankings that are served have to call themselves stale.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::Rankings;

/// Decides whether the rankings are stale.
pub(crate) struct Freshness {
    /// Whether a batch that is published now would be counted soon.
    consuming: Box<dyn Fn() -> bool + Send + Sync>,
    /// The rankings are stale if the database has not confirmed them, or the consumer has not worked, for this long.
    stale_after: Duration,
    /// Since when the consumer is known not to work.
    idle_since: Mutex<Option<Instant>>,
}

impl Freshness {
    pub(crate) fn new(consuming: impl Fn() -> bool + Send + Sync + 'static, stale_after: Duration) -> Self {
        Self {
            consuming: Box::new(consuming),
            stale_after,
            idle_since: Mutex::new(None),
        }
    }

    /// Whether the rankings are stale now. Each call looks at the consumer, so the calls must come more often than
    /// every `stale_after`.
    pub(super) fn is_stale(&self, rankings: &Rankings) -> bool {
        let unconfirmed = rankings.age().is_none_or(|age| age > self.stale_after);
        // `is_idle` comes first, so that it is always called and records when the consumer stopped.
        self.is_idle() || unconfirmed
    }

    pub(super) fn is_idle(&self) -> bool {
        let mut since = self
            .idle_since
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if (self.consuming)() {
            *since = None;
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() > self.stale_after
    }
}
