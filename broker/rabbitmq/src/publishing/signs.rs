use std::sync::atomic::{AtomicBool, Ordering};

/// What the task that publishes has seen of the broker, for the one that watches the link.
#[derive(Debug, Default)]
pub(super) struct Signs {
    answered: AtomicBool,
    unroutable: AtomicBool,
}

impl Signs {
    /// The broker has answered publishes.
    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// The broker has returned a message that no queue takes.
    pub(super) fn set_unroutable(&self) {
        self.unroutable.store(true, Ordering::Relaxed);
    }

    /// Since the last time this was asked.
    pub(super) fn take_answered(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// Since the last time this was asked.
    pub(super) fn take_unroutable(&self) -> bool {
        self.unroutable.swap(false, Ordering::Relaxed)
    }
}
