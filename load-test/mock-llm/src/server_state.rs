use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use precise_time::MonotonicTime;
use tokio::sync::Semaphore;

use crate::{Settings, Stats, deadlines::Stalls, stats::Counters};

/// The state that all cores share.
pub(crate) struct ServerState {
    pub settings: Settings,
    pub address: SocketAddr,
    /// Unix time of the start, in s.
    pub created: u64,
    pub stalls: Option<Stalls>,
    pub slots: Option<Arc<Semaphore>>,
    requests: AtomicU64,
    /// One for each core.
    counters: Vec<Mutex<Counters>>,
}

impl ServerState {
    pub(crate) fn new(settings: Settings, address: SocketAddr) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "responses state when they were created; nothing depends on it"
        )]
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            address,
            created: created.map_or(0, |since| since.as_secs()),
            stalls: settings
                .stall
                .map(|stall| Stalls::new(stall, MonotonicTime::now())),
            slots: settings
                .slots
                .map(|slots| Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)))),
            requests: AtomicU64::new(0),
            counters: (0..settings.cores).map(|_| Mutex::new(Counters::new())).collect(),
            settings,
        }
    }

    /// The number of the next request, counted from the server's start.
    pub(crate) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// The counters of one core. Only a call of [`Self::stats`] on another thread contends for them.
    pub(crate) fn counters(&self, core: usize) -> MutexGuard<'_, Counters> {
        // A panic cannot leave counters half changed.
        self.counters[core].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> Stats {
        Counters::sum((0..self.counters.len()).map(|core| self.counters(core)))
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("settings", &self.settings)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
