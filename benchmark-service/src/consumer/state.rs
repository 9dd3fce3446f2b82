use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use broker::Broker;

/// Whether the consumer works, for `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct ConsumerState {
    pub(super) running: AtomicBool,
    pub(super) holding: AtomicBool,
}

impl ConsumerState {
    /// What is wrong; `None` where nothing is.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        if !self.running.load(Ordering::Relaxed) {
            Some("not started")
        } else if self.holding.load(Ordering::Relaxed) {
            Some("holding batches until the database takes them")
        } else {
            None
        }
    }
}

/// Whether batches reach the statistics: the consumer works, and the broker can deliver to it.
#[derive(Debug, Clone)]
pub(crate) struct Consumption {
    pub(crate) state: Arc<ConsumerState>,
    pub(crate) broker: Arc<dyn Broker>,
}

impl Consumption {
    /// Whether a batch that is published now would be counted soon.
    pub(crate) fn works(&self) -> bool {
        self.state.trouble().is_none() && self.broker.consume_link().is_ready()
    }
}
