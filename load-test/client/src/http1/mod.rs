//! HTTP/1.1 as a client that measures needs it (RFC 9112).
//!
//! Not hyper's: there a token passes through a connection's state machine and a channel to the body, each with wakers of its own, and
//! a buffer for each connection. With thousands of streams all of that is cold in the cache at every token. Here the request's own task
//! reads the socket into a buffer of its thread, which is always warm, and the bytes go through [`Framing`] into the event scanner
//! within the same call. What is left of a connection between two reads is some ten bytes of state.

mod framing;
mod head;
mod request;

use std::io;

pub(crate) use framing::{Framing, Piece};
pub(crate) use head::Head;
pub(crate) use request::RequestHead;

/// Why a connection did not bring an HTTP message to its end.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket, or TLS.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server closed the connection and answered nothing.
    #[error("the server closed the connection and answered nothing")]
    ClosedUnanswered,
    /// The connection ended before the message did.
    #[error("the connection ended before the answer did")]
    Incomplete,
    /// The head of the answer is none of HTTP/1.1.
    #[error("the server's answer is not HTTP/1.1")]
    Head(#[source] httparse::Error),
    /// The head of the answer does not end.
    #[error("an answer's head of more than {limit} bytes, the limit")]
    HeadTooLong {
        /// [`Limits::max_head_bytes`](crate::Limits::max_head_bytes).
        limit: usize,
    },
    /// The headers, or the marks between the body's chunks, do not say where the body ends.
    #[error("the end of the answer's body cannot be told: {0}")]
    Framing(&'static str),
}
