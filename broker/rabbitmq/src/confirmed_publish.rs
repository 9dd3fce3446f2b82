//! Publishes one message and waits for the broker's confirmation.

use std::time::Duration;

use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions, types::ShortString};
use tokio::time::timeout;

/// Why a published message is not known to be in a queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotConfirmed {
    #[error("the broker's client failed")]
    Client(#[from] lapin::Error),
    #[error("it was not confirmed within {} s", .after.as_secs_f32())]
    InTime { after: Duration },
    /// No queue is bound for it.
    #[error("the broker returned it: {reason}")]
    Returned { reason: String },
    #[error("the broker refused it")]
    Refused,
}

/// Publishes over a channel with publisher confirms, and waits until the message is in at least one queue. `after` is the time
/// limit.
pub(crate) async fn publish_confirmed(
    channel: &Channel,
    exchange: ShortString,
    routing_key: ShortString,
    body: &[u8],
    properties: BasicProperties,
    after: Duration,
) -> Result<(), NotConfirmed> {
    let mandatory = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let publish = async {
        let confirm = channel
            .basic_publish(exchange, routing_key, mandatory, body, properties)
            .await?;
        confirm.await
    };
    match timeout(after, publish).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(returned)))) => Err(NotConfirmed::Returned {
            reason: returned.reply_text.to_string(),
        }),
        Ok(Ok(_)) => Err(NotConfirmed::Refused),
        Ok(Err(error)) => Err(error.into()),
        Err(_elapsed) => Err(NotConfirmed::InTime { after }),
    }
}
