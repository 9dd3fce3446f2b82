use std::sync::atomic::{AtomicBool, Ordering};

/// What the publish loop has received from the broker. The task that watches the link reads and resets it.
#[derive(Debug, Default)]
pub(super) struct BrokerActivity {
    answered: AtomicBool,
    returned: AtomicBool,
}

impl BrokerActivity {
    /// The broker has answered a publish.
    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// The broker has returned a message, because no queue takes it.
    pub(super) fn set_returned(&self) {
        self.returned.store(true, Ordering::Relaxed);
    }

    /// Whether the broker has answered since the last call.
    pub(super) fn take_answered(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }

    /// Whether the broker has returned a message since the last call.
    pub(super) fn take_returned(&self) -> bool {
        self.returned.swap(false, Ordering::Relaxed)
    }
}
