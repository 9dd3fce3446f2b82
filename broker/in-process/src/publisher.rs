use std::sync::Arc;

use async_trait::async_trait;
use broker::{LinkState, OutgoingMessage, PublishError, Publisher};

use crate::queue::{Closed, Queue};

/// Publishes into the queue in memory.
///
/// A `publish` that is given up leaves its message in the queue, as a lost confirmation would.
#[derive(Debug)]
pub(crate) struct InProcessPublisher {
    queue: Arc<Queue>,
}

impl InProcessPublisher {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl Publisher for InProcessPublisher {
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError> {
        let confirmation = self
            .queue
            .publish(message)
            .await
            .map_err(|Closed| PublishError::Unavailable {
                reason: Closed.to_string(),
            })?;
        confirmation.await.map_err(|_dropped| PublishError::Unconfirmed {
            source: Box::new(Closed),
        })
    }

    fn link(&self) -> LinkState {
        self.queue.link()
    }
}
