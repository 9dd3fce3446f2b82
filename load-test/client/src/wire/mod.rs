//! From a socket to HTTP messages, and from their bodies to the events of a stream. Nothing here knows an API.

mod connect;
mod connection;
mod event_stream;
mod first_content_poller;
mod http1;
mod receive_timestamp;
mod socket;
mod socket_receiver;
mod tls;
mod transport;

pub(crate) use connect::Connector;
pub(crate) use connection::{
    BodyRead, Connection, OpenConnectionGuard, PieceResult, ReadBuffer, ResponseStart,
};
pub(crate) use event_stream::{EventScanner, StreamEvent, TooLong};
pub use first_content_poller::before_sleep;
pub(crate) use http1::RequestHead;
pub(crate) use receive_timestamp::ReceiveTimestamp;
pub(crate) use tls::Tls;
