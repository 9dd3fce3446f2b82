//! Keeps the rankings snapshot in step with the database.

mod ledger;
mod one_shot;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use shared_types::Clock;
use storage::{Revision, Storage, StorageError};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::snapshot::{Selection, Shape, Snapshot, Target};
use ledger::{Ledger, Unusable};
pub use one_shot::{RankingsError, rankings_now};

/// The current rankings: read by any number of requests without a lock, replaced as a whole by the projector.
#[derive(Debug)]
pub(crate) struct Rankings {
    current: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
    confirmed: Mutex<Option<Instant>>,
    refresh: Notify,
}

impl Rankings {
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty()),
            version: watch::Sender::new(0),
            confirmed: Mutex::new(None),
            refresh: Notify::new(),
        }
    }

    /// The current snapshot, for the time of one request.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Tells of every new snapshot by its version.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Something was committed that the rankings should show soon.
    pub(crate) fn refresh_soon(&self) {
        self.refresh.notify_one();
    }

    /// How long ago the snapshot was last known to be what the database says; `None` before the first time.
    pub(crate) fn age(&self) -> Option<Duration> {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.map(|at| at.elapsed())
    }

    fn confirm(&self, at: Instant) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.current.store(Arc::new(snapshot));
        self.version.send_replace(version);
    }
}

/// Why the snapshot is not what the database says: it stays as it is, or lacks what is unusable.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("computing the summaries panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The task that makes snapshots.
#[derive(Debug)]
pub(crate) struct Projector {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    rankings: Arc<Rankings>,
    default_selection: Selection,
    failures: prometheus::IntCounter,
    since: Option<Revision>,
    ledger: Ledger,
}

impl Projector {
    /// The most often that a snapshot is made.
    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    /// The longest pause after a refresh that was much work.
    const LONGEST_REST: Duration = Duration::from_secs(5);
    /// How long other processes' commits and changes of the registry may go unnoticed.
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        rankings: Arc<Rankings>,
        default_selection: Selection,
        failures: prometheus::IntCounter,
    ) -> Self {
        Self {
            storage,
            clock,
            rankings,
            default_selection,
            failures,
            since: None,
            ledger: Ledger::default(),
        }
    }

    /// Refreshes until shutdown: soon after a commit of this process, and every second in any case.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let rankings = Arc::clone(&self.rankings);
        let mut failing = false;
        loop {
            let started = Instant::now();
            let refreshed = tokio::select! {
                () = shutdown.cancelled() => return,
                refreshed = self.refresh() => refreshed,
            };
            match refreshed {
                Ok(()) => {
                    if failing {
                        tracing::info!("the rankings are up to date again");
                    }
                    failing = false;
                }
                Err(error) => {
                    self.failures.inc();
                    if !failing {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the rankings could not be refreshed; serving what is known"
                        );
                    }
                    failing = true;
                }
            }
            // Nine times as long as the work took, so that refreshing takes a tenth of a core; but a database that was
            // long in failing is asked again soon.
            let pause = if failing {
                Self::LONGEST_PAUSE
            } else {
                (started.elapsed() * 9).clamp(Self::SHORTEST_PAUSE, Self::LONGEST_REST)
            };
            let wait = async {
                tokio::time::sleep(pause).await;
                tokio::time::timeout(Self::LONGEST_PAUSE, rankings.refresh.notified())
                    .await
                    .ok();
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = wait => {}
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), RefreshError> {
        let (asked_at, now) = (Instant::now(), self.clock.now());
        let (llms, metrics) = (self.storage.llms().await?, self.storage.metrics().await?);
        let change = self
            .storage
            .statistics_since(self.since, Ledger::horizon(now))
            .await?;
        let revision = change.revision;
        let moved = self.ledger.take(change, now);
        self.since = Some(revision);

        let previous = self.rankings.current.load_full();
        let outdated = moved || !previous.has_registry(&llms, &metrics);
        if outdated || self.ledger.is_stale() {
            // A panic loses the ledger: the next refresh then reads everything again.
            self.since = None;
            let mut ledger = std::mem::take(&mut self.ledger);
            let selection = self.default_selection;
            let (ledger, updated, snapshot) = tokio::task::spawn_blocking(move || {
                let updated = ledger.update();
                let snapshot =
                    outdated.then(|| Snapshot::next(&previous, now, llms, metrics, ledger.summaries()));
                if let Some(snapshot) = &snapshot {
                    prepare_default_bodies(snapshot, selection);
                }
                (ledger, updated, snapshot)
            })
            .await?;
            (self.ledger, self.since) = (ledger, Some(revision));
            if let Some(snapshot) = snapshot {
                self.rankings.publish(snapshot);
            }
            // What can be shown is shown; that something cannot is still a failure.
            updated?;
        }
        self.rankings.confirm(asked_at);
        Ok(())
    }
}

/// What is asked for most is ready before the snapshot is seen; the rest is serialised on first use.
fn prepare_default_bodies(snapshot: &Snapshot, selection: Selection) {
    snapshot.body(selection, Target::All, Shape::Json);
    for place in 0..snapshot.titles().count() {
        snapshot.body(selection, Target::Metric(place), Shape::Json);
    }
}
