use async_trait::async_trait;
use broker::{FromWorker, OfferedShares, ShareError, WorkerAddress};
use bytes::Bytes;

use super::line::Line;
use crate::outgoing::short;

/// The coordinator's side.
pub(super) struct Offered {
    line: Line,
    run_id: String,
}

impl Offered {
    pub(super) fn new(line: Line, run_id: String) -> Self {
        Self { line, run_id }
    }
}

#[async_trait]
impl OfferedShares for Offered {
    async fn next(&mut self) -> Result<FromWorker, ShareError> {
        let delivery = self.line.next().await?;
        // Who gives no address is answered at an empty one, which is not there: he is gone.
        let from = delivery.properties.reply_to().as_ref();
        Ok(FromWorker {
            from: WorkerAddress(from.map_or_else(String::new, |queue| queue.as_str().to_owned())),
            body: delivery.data.into(),
        })
    }

    async fn send(&self, to: &WorkerAddress, body: Bytes) -> Result<(), ShareError> {
        let properties = self.line.properties(&self.run_id);
        self.line.send(short(&to.0), &body, properties).await
    }

    async fn close(self: Box<Self>) {
        self.line.close().await;
    }
}
