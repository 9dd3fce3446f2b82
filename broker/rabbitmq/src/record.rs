use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::LinkStatistics;
use tokio::time::Instant;

/// What a link has been through, over all its generations.
#[derive(Debug, Default)]
pub(crate) struct LinkRecord {
    reconnects: AtomicU64,
    blocked: Mutex<Blocked>,
}

#[derive(Debug, Default)]
struct Blocked {
    before: Duration,
    since: Option<Instant>,
}

impl LinkRecord {
    /// A generation that is not the first has connected.
    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the broker accepts nothing from now on. May be said again.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        let mut times = self.lock();
        let now = Instant::now();
        if let Some(since) = times.since.take() {
            times.before += now - since;
        }
        times.since = blocked.then_some(now);
    }

    pub(crate) fn statistics(&self) -> LinkStatistics {
        let times = self.lock();
        LinkStatistics {
            reconnects: self.reconnects.load(Ordering::Relaxed),
            blocked: times.before + times.since.map(|since| since.elapsed()).unwrap_or_default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocked> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn blocked_time_grows_while_it_lasts_and_stays_after() {
        const SECOND: Duration = Duration::from_secs(1);
        let record = LinkRecord::default();
        let blocked = || record.statistics().blocked;
        assert_eq!(record.statistics(), LinkStatistics::default());
        advance(SECOND).await;
        record.set_blocked(true);
        advance(SECOND).await;
        assert_eq!(blocked(), SECOND);
        record.set_blocked(true);
        advance(SECOND).await;
        record.set_blocked(false);
        advance(SECOND).await;
        assert_eq!(blocked(), 2 * SECOND);
        record.set_blocked(true);
        advance(SECOND).await;
        assert_eq!(blocked(), 3 * SECOND);
    }
}
