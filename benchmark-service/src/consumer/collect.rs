use std::time::Duration;

use broker::{Delivery, Subscription};
use tokio_util::sync::CancellationToken;

/// Limits of a micro-batch, the deliveries that are counted in one transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MicroBatchLimits {
    pub(crate) max_messages: usize,
    /// The micro-batch is complete when its bodies reach this size in bytes.
    pub(crate) max_bytes: usize,
    /// How long the first delivery waits for others.
    pub(crate) max_wait: Duration,
}

impl MicroBatchLimits {
    pub(crate) const DEFAULT: Self = Self {
        max_messages: 128,
        max_bytes: 4 * 1024 * 1024,
        max_wait: Duration::from_millis(20),
    };

    /// Waits for a first delivery, then takes deliveries until a limit is reached. Returns `None` at shutdown and when
    /// the broker was closed; deliveries already taken then return to the queue.
    pub(crate) async fn collect(
        self,
        subscription: &mut dyn Subscription,
        shutdown: &CancellationToken,
    ) -> Option<Vec<Delivery>> {
        let first = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            delivery = subscription.next() => delivery?,
        };
        let mut bytes = first.body.len();
        let mut deliveries = vec![first];
        let deadline = tokio::time::sleep(self.max_wait);
        tokio::pin!(deadline);
        while deliveries.len() < self.max_messages && bytes < self.max_bytes {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                delivery = subscription.next() => match delivery {
                    Some(delivery) => {
                        bytes += delivery.body.len();
                        deliveries.push(delivery);
                    }
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        Some(deliveries)
    }
}
