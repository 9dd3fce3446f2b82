//! RabbitMQ as the message broker, over AMQP 0-9-1.
//!
//! [`RabbitMqBroker::start`] returns at once and keeps connecting in the background: one connection publishes, and each
//! subscription has one of its own. A connection that is lost is never repaired; its supervisor drops all that belongs
//! to it (channel, consumer, unsettled deliveries) and begins the next generation with the topology. So it does after
//! any error, and it never gives up.
//!
//! The topology: durable topic exchange `llm.batches`, bound with `batch.#` to the durable quorum queue of the
//! settings; durable exchange `llm.batches.dead`, bound to the queue `<queue>.dead`. Older producers publish to the
//! queue by its name.
//!
//! TLS (`amqps://`) uses ring, the only provider that is compiled in, and the machine's root certificates.

mod broker;
mod confirmed;
mod consuming;
mod dead_letter;
mod dead_letters;
mod error;
mod link;
mod outgoing;
mod publishing;
mod received_message;
mod record;
mod server_version;
mod settings;
mod socket;
mod supervisor;
mod topology;
mod transport;

pub use crate::{
    broker::RabbitMqBroker,
    settings::{InvalidSettings, RabbitMqSettings},
};
