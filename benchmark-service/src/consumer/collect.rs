use std::time::Duration;

use broker::{Delivery, Subscription};
use tokio_util::sync::CancellationToken;

/// How many deliveries are counted in one transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MicroBatchLimits {
    pub(crate) max_messages: usize,
    /// Bodies that reach this close the micro-batch: bounds what one transaction and its decoding take.
    pub(crate) max_bytes: usize,
    /// How long the first delivery waits for company.
    pub(crate) max_wait: Duration,
}

impl MicroBatchLimits {
    pub(crate) const DEFAULT: Self = Self {
        max_messages: 128,
        max_bytes: 4 * 1024 * 1024,
        max_wait: Duration::from_millis(20),
    };

    /// Waits for a first delivery, then takes what comes until a limit is reached. `None` at shutdown and when the
    /// broker was closed; deliveries already taken then go back to the queue.
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
