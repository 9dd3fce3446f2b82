use async_trait::async_trait;
use broker::{LinkState, OutgoingMessage, PublishError, Publisher};

use crate::queue::{Closed, Queue};

/// A `publish` whose caller stops waiting leaves its message in the queue, as a lost confirmation would.
#[async_trait]
impl Publisher for Queue {
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError> {
        let confirmation = self
            .push(message)
            .await
            .map_err(|Closed| PublishError::Unavailable {
                reason: Closed.to_string(),
            })?;
        confirmation.await.map_err(|_dropped| PublishError::Unconfirmed {
            source: Box::new(Closed),
        })
    }

    /// Down from the beginning of the broker's end, which is when publishing is refused.
    fn link(&self) -> LinkState {
        if self.refuses_publishing() {
            LinkState::Down {
                reason: Closed.to_string(),
            }
        } else {
            LinkState::Ready
        }
    }
}
