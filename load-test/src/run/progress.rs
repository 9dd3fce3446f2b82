use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use hdrhistogram::Histogram;

use super::ClassCounts;
use crate::{
    histograms::{duration_histogram, merge, nanos},
    record::{Class, RequestRecord},
};

/// The progress of a run, for a display. Written once per request and ten times a second, never per token.
#[derive(Debug)]
pub struct Progress {
    scheduled: AtomicU64,
    in_flight: AtomicU64,
    chunks: AtomicU64,
    classes: [AtomicU64; Class::ALL.len()],
    /// One for each thread, so that only the display ever waits for a lock.
    ttft: Box<[Mutex<Histogram<u64>>]>,
}

/// A [`Progress`] at one moment. Its figures are read one after the other: they balance only when the run is over.
#[derive(Debug, Clone)]
pub struct ProgressSnapshot {
    /// Requests that were begun or dropped.
    pub scheduled: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Content chunks that were received.
    pub chunks: u64,
    /// How requests ended.
    pub classes: ClassCounts,
    /// First content − sent of the requests that ended, ns.
    pub ttft: Histogram<u64>,
}

impl Progress {
    /// For a run with this many worker threads or fewer.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            scheduled: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            chunks: AtomicU64::default(),
            classes: Default::default(),
            ttft: (0..threads.max(1))
                .map(|_| Mutex::new(duration_histogram()))
                .collect(),
        }
    }

    /// The present figures.
    #[must_use]
    pub fn snapshot(&self) -> ProgressSnapshot {
        let mut classes = ClassCounts::default();
        for class in Class::ALL {
            classes.count(class, self.classes[class as usize].load(Relaxed));
        }
        let mut ttft = duration_histogram();
        for thread in &self.ttft {
            merge(&mut ttft, &lock(thread));
        }
        ProgressSnapshot {
            scheduled: self.scheduled.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            chunks: self.chunks.load(Relaxed),
            classes,
            ttft,
        }
    }

    pub(super) fn begun(&self) {
        self.scheduled.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, record: &RequestRecord) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.classes[record.class as usize].fetch_add(1, Relaxed);
        if let (Some(sent), Some(first)) = (record.sent, record.first_content) {
            let ttft = nanos(first.saturating_since(sent));
            lock(&self.ttft[usize::from(record.thread) % self.ttft.len()]).saturating_record(ttft);
        }
    }

    pub(super) fn chunks(&self, n: u64) {
        self.chunks.fetch_add(n, Relaxed);
    }
}

/// A panic cannot leave a histogram inconsistent, so a poisoned lock is used as it is.
fn lock(histogram: &Mutex<Histogram<u64>>) -> MutexGuard<'_, Histogram<u64>> {
    histogram.lock().unwrap_or_else(PoisonError::into_inner)
}
