//! A batch as a message: JSON that RabbitMQ's management UI shows readably.
//!
//! [`encode`] writes one form; [`decode`] reads every form that a producer may send, the older one included: an
//! array of objects with only `llm_name`, `metric`, `values` and `timestamp`.

mod decode;
mod encode;
mod timestamp;

pub use decode::{DecodeError, decode};
pub use encode::encode;

/// The version of the message this crate writes, and the newest it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The `content_type` of the messages.
pub const CONTENT_TYPE: &str = "application/json";

/// The largest body that is decoded, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The most batches that one message may hold.
pub const MAX_BATCHES: usize = 10_000;
