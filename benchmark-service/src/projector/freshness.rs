//! When the rankings that are served have to call themselves stale.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::Rankings;

/// Decides whether the rankings are stale.
pub(crate) struct Freshness {
    /// Whether a batch that is published now would be counted soon.
    consuming: Box<dyn Fn() -> bool + Send + Sync>,
    /// For how long the database may not have been heard of, or the consumer not have consumed, until the rankings are
    /// stale.
    stale_after: Duration,
    /// Since when the consumer is known not to consume.
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

    /// Whether the rankings are stale now. The consumer is looked at whenever this is asked, so it must be asked more
    /// often than the tolerance is long.
    pub(super) fn is_stale(&self, rankings: &Rankings) -> bool {
        let unconfirmed = rankings.age().is_none_or(|age| age > self.stale_after);
        // Both are asked, so that the consumer's idleness is noted from its beginning.
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
