use async_trait::async_trait;
use broker::{ShareError, TakenShare};
use bytes::Bytes;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicQosOptions},
    types::ShortString,
};

use super::{
    OFFERS,
    line::{Line, consume},
    unavailable,
};
use crate::error::LinkError;

/// A worker's side.
pub(super) struct Taken {
    line: Line,
    offer: Bytes,
    delivery: Delivery,
    coordinator: ShortString,
    run_id: String,
    is_kept: bool,
}

impl Taken {
    /// Takes one share. The consumer of offers goes before the share is kept: otherwise the broker would send the next one to a
    /// worker that is busy with this.
    pub(super) async fn wait(line: Line) -> Result<Self, ShareError> {
        const ONE: u16 = 1;
        let channel = line.channel();
        channel
            .basic_qos(ONE, BasicQosOptions::default())
            .await
            .map_err(|error| unavailable(LinkError::Channel(error)))?;
        let mut offers = consume(channel, OFFERS.into(), false)
            .await
            .map_err(unavailable)?;
        let mut delivery = line.next_of(&mut offers).await?;
        channel
            .basic_cancel(offers.tag(), BasicCancelOptions::default())
            .await
            .map_err(|error| unavailable(LinkError::Lost(error)))?;
        let text = |text: &Option<ShortString>| text.clone().unwrap_or_default();
        Ok(Self {
            line,
            offer: std::mem::take(&mut delivery.data).into(),
            coordinator: text(delivery.properties.reply_to()),
            run_id: text(delivery.properties.correlation_id()).to_string(),
            delivery,
            is_kept: false,
        })
    }
}

#[async_trait]
impl TakenShare for Taken {
    fn offer(&self) -> &Bytes {
        &self.offer
    }

    async fn keep(&mut self) -> Result<(), ShareError> {
        if self.is_kept {
            return Ok(());
        }
        let acknowledged = self.delivery.acker.ack(BasicAckOptions::default()).await;
        // Without an error nothing was written where the channel is over.
        self.is_kept = acknowledged.map_err(|error| unavailable(LinkError::Lost(error)))?;
        if self.is_kept {
            Ok(())
        } else {
            Err(unavailable(LinkError::ChannelClosed))
        }
    }

    async fn next(&mut self) -> Result<Bytes, ShareError> {
        Ok(self.line.next().await?.data.into())
    }

    async fn send(&self, body: Bytes) -> Result<(), ShareError> {
        let properties = self.line.properties(&self.run_id);
        self.line.send(self.coordinator.clone(), &body, properties).await
    }

    async fn close(self: Box<Self>) {
        self.line.close().await;
    }
}
