use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};

/// A message as the broker delivered it.
#[derive(Debug)]
pub(crate) struct ReceivedMessage {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl From<lapin::message::Delivery> for ReceivedMessage {
    fn from(mut delivery: lapin::message::Delivery) -> Self {
        // The AMQP client allocates up to twice the size of the body.
        delivery.data.shrink_to_fit();
        Self {
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            properties: delivery.properties,
            body: delivery.data.into(),
        }
    }
}
