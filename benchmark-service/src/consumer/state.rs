use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the consumer counts batches, for `/readyz` and for the freshness of the rankings.
#[derive(Debug, Default)]
pub(crate) struct ConsumerState {
    pub(super) running: AtomicBool,
    pub(super) holding: AtomicBool,
    pub(super) rebuilding: AtomicBool,
}

impl ConsumerState {
    /// Why batches are not counted; `None` while they are.
    pub(crate) fn unready_reason(&self) -> Option<&'static str> {
        if !self.running.load(Ordering::Relaxed) {
            Some("not started")
        } else if self.holding.load(Ordering::Relaxed) {
            Some("holding batches until the database takes them")
        } else if self.rebuilding.load(Ordering::Relaxed) {
            Some("waiting until the statistics are rebuilt")
        } else {
            None
        }
    }
}
