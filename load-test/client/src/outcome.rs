use std::{io, time::Duration};

/// How a request ended. There is no outcome for a cancelled request: cancelling drops the future.
#[derive(Debug)]
pub enum Outcome {
    /// The whole response was received: the API's own end of it, and the end of the HTTP message.
    Ok,
    /// A status other than 2xx. Redirects count too, because following one could send the key to another server.
    HttpError {
        /// The status.
        status: u16,
        /// The time to wait that the server asks for (`Retry-After`, in seconds or as a date).
        retry_after: Option<Duration>,
        /// The body's `error.message`, else the beginning of the body; at most 500 characters, without control characters.
        message: Box<str>,
    },
    /// The connection failed, the server reported an error in a response of status 200, or the response cannot be read.
    StreamError(StreamError),
    /// The HTTP message is complete, but the stream in it has no end: no finish reason, `[DONE]` or `message_stop`.
    Truncated,
    /// The request took longer than [`Limits::request_timeout`](crate::Limits::request_timeout).
    TimedOut,
    /// The request was never sent, because this process lacked a resource.
    Dropped(MissingResource),
}

/// Why a response could not be received or read.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The host's name could not be resolved.
    #[error("{host} has no address")]
    Resolve {
        /// The name.
        host: Box<str>,
        /// The resolver's error.
        source: io::Error,
    },
    /// No connection could be established: refused, unreachable, reset.
    #[error("no connection to {host}")]
    Connect {
        /// Host and port.
        host: Box<str>,
        /// The operating system's error.
        source: io::Error,
    },
    /// No connection could be established in time.
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
        /// The reason: an unknown issuer, another name, no protocol in common.
        source: io::Error,
    },
    /// The connection failed, or the server does not speak HTTP/1.1.
    #[error("the connection failed")]
    Transport(#[source] TransportError),
    /// The server reported an error in its response.
    #[error("the server reported: {message}")]
    Reported {
        /// The server's message: at most 500 characters, without control characters.
        message: Box<str>,
    },
    /// An event or a body is not valid for the API.
    #[error("not an answer of this API: {excerpt:?}")]
    Malformed {
        /// The beginning of the event or body: at most 500 characters, without control characters.
        excerpt: Box<str>,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A line, or the data of one event, is longer than the limit.
    #[error("an event of more than {limit} bytes, the limit")]
    EventTooLong {
        /// [`Limits::max_line_bytes`](crate::Limits::max_line_bytes).
        limit: usize,
    },
    /// A body is longer than the limit.
    #[error("a body of more than {limit} bytes, the limit")]
    BodyTooLong {
        /// [`Limits::max_body_bytes`](crate::Limits::max_body_bytes).
        limit: usize,
    },
}

/// Why no complete HTTP message could be read from a connection.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket or TLS failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server closed the connection without a response.
    #[error("the server closed the connection and answered nothing")]
    ClosedUnanswered,
    /// The connection ended before the message did.
    #[error("the connection ended before the answer did")]
    Incomplete,
    /// The response does not begin with a head of HTTP/1.1.
    #[error("the server's answer is not HTTP/1.1")]
    Head(#[source] httparse::Error),
    /// The response's head is longer than the limit.
    #[error("an answer's head of more than {limit} bytes, the limit")]
    HeadTooLong {
        /// [`Limits::max_head_bytes`](crate::Limits::max_head_bytes).
        limit: usize,
    },
    /// The headers, or the lines between the body's chunks, do not say where the body ends.
    #[error("the end of the answer's body cannot be told: {0}")]
    Framing(&'static str),
}

/// The resource that this process lacked to send a request.
#[derive(Debug, thiserror::Error)]
pub enum MissingResource {
    /// File descriptors; `ulimit -n` raises the limit.
    #[error("no file descriptors are left (see `ulimit -n`)")]
    Descriptors(#[source] io::Error),
    /// Local ports. There are some 28 000 for each address of the server, and a closed connection keeps its port for a minute.
    #[error("no local ports are left (see net.ipv4.ip_local_port_range)")]
    Ports(#[source] io::Error),
    /// Memory for sockets.
    #[error("the operating system has no memory for another socket")]
    Memory(#[source] io::Error),
}
