//! The current rankings, and since when they are known to be current.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderValue;
use arc_swap::{ArcSwap, Guard};
use chrono::{DateTime, SecondsFormat, Utc};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::snapshot::Snapshot;

/// The current rankings: read by any number of requests without a lock, replaced as a whole by the projector.
#[derive(Debug)]
pub(crate) struct Rankings {
    current: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
    confirmed: ArcSwap<Confirmation>,
    refresh: Arc<Notify>,
}

/// The last time that the snapshot was known to equal the database.
#[derive(Debug)]
pub(crate) struct Confirmation {
    /// `None` before the first time.
    at: Option<Instant>,
    /// All batches that were counted until then are in the snapshot.
    pub(crate) as_of: DateTime<Utc>,
    /// `as_of` in RFC 3339, formatted once for all requests.
    pub(crate) header: HeaderValue,
}

impl Confirmation {
    fn of(at: Option<Instant>, as_of: DateTime<Utc>) -> Self {
        let text = as_of.to_rfc3339_opts(SecondsFormat::Millis, true);
        #[expect(clippy::expect_used, reason = "a time in ASCII is a header value")]
        let header = HeaderValue::try_from(text).expect("a header value");
        Self { at, as_of, header }
    }
}

impl Rankings {
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty()),
            version: watch::Sender::new(0),
            confirmed: ArcSwap::from_pointee(Confirmation::of(None, DateTime::UNIX_EPOCH)),
            refresh: Arc::default(),
        }
    }

    /// The current snapshot, for the duration of one request.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current snapshot, to be kept for longer.
    pub(super) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Up to which time all counted batches are known to be in the rankings.
    pub(crate) fn confirmed(&self) -> Guard<Arc<Confirmation>> {
        self.confirmed.load()
    }

    /// The time since the snapshot was last known to equal the database; `None` before the first time.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.confirmed.load().at.map(|at| at.elapsed())
    }

    /// A receiver of the version of every new snapshot.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Requests a refresh: a change was committed that the rankings should show soon.
    pub(crate) fn refresh_soon(&self) {
        self.refresh.notify_one();
    }

    /// What [`Self::refresh_soon`] notifies.
    pub(crate) fn refresh_requests(&self) -> &Arc<Notify> {
        &self.refresh
    }

    /// Records that the snapshot shows what the database said at `at`, which the clock called `as_of`.
    pub(super) fn confirm(&self, at: Instant, as_of: DateTime<Utc>) {
        // The clock may be set back; the confirmed time must not be.
        let as_of = as_of.max(self.confirmed.load().as_of);
        self.confirmed.store(Arc::new(Confirmation::of(Some(at), as_of)));
    }

    /// Replaces the snapshot.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.current.store(Arc::new(snapshot));
        self.version.send_replace(version);
    }

    /// Replaces `previous` by the same rankings with another freshness, unless a newer snapshot was published meanwhile.
    pub(super) fn restate(&self, previous: &Arc<Snapshot>, restated: Snapshot) {
        self.current.compare_and_swap(previous, Arc::new(restated));
    }
}
