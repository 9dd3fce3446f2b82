//! RabbitMQ as the message broker, over AMQP 0-9-1.
//!
//! [`RabbitMqBroker::start`] returns at once and connects in the background. One connection publishes, and each subscription
//! has a connection of its own. A lost connection is never repaired. Its supervisor drops everything that belongs to it
//! (channel, consumers, unsettled deliveries), connects again and declares the topology. It does so after any error and
//! never gives up.
//!
//! The topology: durable topic exchange `llm.batches`, bound with `batch.#` to the durable quorum queue of the
//! settings; durable exchange `llm.batches.dead`, bound to the queue `<queue>.dead`. Older producers publish to the
//! queue by its name.
//!
//! TLS (`amqps://`) uses ring, the only provider that is compiled in, and the machine's root certificates.

mod amqp_message;
mod broker;
mod confirmed_publish;
mod consuming;
mod dead_letter_format;
mod dead_letter_queue;
mod error;
mod link;
mod link_statistics;
mod publishing;
mod received_message;
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
