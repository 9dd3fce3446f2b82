use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::LinkStatistics;
use tokio::time::Instant;

/// Counts the reconnects and the blocked time of a link, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct LinkStatisticsRecorder {
    reconnects: AtomicU64,
    blocked: Mutex<Blocked>,
}

#[derive(Debug, Default)]
struct Blocked {
    before: Duration,
    since: Option<Instant>,
}

impl LinkStatisticsRecorder {
    /// Counts a connection that replaces a lost one.
    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Records whether the broker blocks the link from now on. Repeating the same state is allowed.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        let mut times = self.lock();
        let now = Instant::now();
        if let Some(since) = times.since.take() {
            times.before += now - since;
        }
        times.since = blocked.then_some(now);
    }

    pub(crate) fn read(&self) -> LinkStatistics {
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
        let recorder = LinkStatisticsRecorder::default();
        let blocked = || recorder.read().blocked;
        assert_eq!(recorder.read(), LinkStatistics::default());
        advance(SECOND).await;
        recorder.set_blocked(true);
        advance(SECOND).await;
        assert_eq!(blocked(), SECOND);
        recorder.set_blocked(true);
        advance(SECOND).await;
        recorder.set_blocked(false);
        advance(SECOND).await;
        assert_eq!(blocked(), 2 * SECOND);
        recorder.set_blocked(true);
        advance(SECOND).await;
        assert_eq!(blocked(), 3 * SECOND);
    }
}
