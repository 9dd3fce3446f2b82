use std::{io, time::Duration};

use crate::http1::TransportError;

/// How a request ended. Exactly one of them; `Cancelled` is missing because who cancels drops the future.
#[derive(Debug)]
pub enum Outcome {
    /// The whole answer came: the API's own end of it, and the end of the HTTP message.
    Ok,
    /// A status other than 2xx. Redirects too: following one could hand the key to somebody else.
    HttpError {
        /// The status.
        status: u16,
        /// How long the server asks to wait (`Retry-After`, in seconds or as a date).
        retry_after: Option<Duration>,
        /// The body's `error.message`, else the beginning of the body: at most 500 characters, none of them control
        /// characters.
        message: Box<str>,
    },
    /// The connection failed, the server reported an error in a stream that began with status 200, or what it sent cannot be
    /// read.
    StreamError(StreamError),
    /// The HTTP message ended as it should, but the answer in it has no end: no finish reason, `[DONE]` or `message_stop`.
    Truncated,
    /// It took longer than [`Limits::request_timeout`](crate::Limits::request_timeout).
    TimedOut,
    /// It was never sent, because this process could not.
    Dropped(Dropped),
}

/// Why an answer could not be had or read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The host's name has no address.
    #[error("{host} has no address")]
    Resolve {
        /// The name.
        host: Box<str>,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection: refused, unreachable, reset.
    #[error("no connection to {host}")]
    Connect {
        /// Host and port.
        host: Box<str>,
        /// What the operating system said.
        source: io::Error,
    },
    /// No connection in time.
    #[error("no connection to {host} within {} ms", limit.as_millis())]
    ConnectTimeout {
        /// Host and port.
        host: Box<str>,
        /// [`Limits::connect_timeout`](crate::Limits::connect_timeout).
        limit: Duration,
    },
    /// The TLS handshake failed.
    #[error("no TLS with {host}")]
    Tls {
        /// Host and port.
        host: Box<str>,
        /// What TLS said: an unknown issuer, another name, no protocol in common.
        source: io::Error,
    },
    /// The connection broke, or the server does not speak HTTP/1.1.
    #[error("the connection failed")]
    Transport(#[source] TransportError),
    /// The server reported an error in its answer.
    #[error("the server reported: {message}")]
    Reported {
        /// The server's message: at most 500 characters, none of them control characters.
        message: Box<str>,
    },
    /// An event or a body is not what the API sends.
    #[error("not an answer of this API: {excerpt:?}")]
    Malformed {
        /// The beginning of what was read: at most 500 characters, none of them control characters.
        excerpt: Box<str>,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line, or the lines of one event together, are longer than the limit.
    #[error("an event of more than {limit} bytes, the limit")]
    EventTooLong {
        /// [`Limits::max_line_bytes`](crate::Limits::max_line_bytes).
        limit: usize,
    },
    /// A body is longer than the limit: such a stream never ends.
    #[error("a body of more than {limit} bytes, the limit")]
    BodyTooLong {
        /// [`Limits::max_body_bytes`](crate::Limits::max_body_bytes).
        limit: usize,
    },
}

/// What this process lacked to send a request.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    /// File descriptors: raise `ulimit -n`.
    #[error("no file descriptors are left (see `ulimit -n`)")]
    Descriptors(#[source] io::Error),
    /// Local ports: there are some 28 000 for each address of the server, and a closed connection keeps its for a minute.
    #[error("no local ports are left (see net.ipv4.ip_local_port_range)")]
    Ports(#[source] io::Error),
    /// Memory for sockets.
    #[error("the operating system has no memory for another socket")]
    Memory(#[source] io::Error),
}
