use std::{rc::Rc, time::Duration};

use bytes::Bytes;

use crate::{Endpoint, Exchange, Observer};

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands, TLS included. A connection that does not stand by then is a
    /// [`StreamError::ConnectTimeout`](crate::StreamError::ConnectTimeout).
    pub connect_timeout: Duration,
    /// From the call of [`Client::exchange`] to the end of the answer.
    pub request_timeout: Duration,
    /// One line of a stream, and the data of one event. It bounds the memory of a stream.
    pub max_line_bytes: usize,
    /// The body of an answer that is not streamed.
    pub max_body_bytes: usize,
    /// Status line and headers of an answer. At least 8 KiB: less is taken as 8 KiB.
    pub max_head_bytes: usize,
    /// Whether a connection serves further requests.
    pub keep_alive: bool,
}

impl Default for Limits {
    /// 10 s to connect, 600 s for all, lines of 16 MiB, bodies of 64 MiB, heads of 64 KiB, connections kept.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(600),
            max_line_bytes: 16 << 20,
            max_body_bytes: 64 << 20,
            max_head_bytes: 64 << 10,
            keep_alive: true,
        }
    }
}

/// The connections of one thread to one endpoint, and the requests over them. `!Send`; cloning gives another handle.
#[derive(Clone)]
pub struct Client {
    _inner: Rc<()>,
}

impl Client {
    /// A client without connections. Nothing is resolved or connected before the first request.
    #[must_use]
    pub fn new(endpoint: Endpoint, limits: Limits) -> Self {
        let _ = (endpoint, limits);
        Self { _inner: Rc::new(()) }
    }

    /// Sends `body` (from [`Endpoint::encode`]) and follows the answer to its end. Never fails: what went wrong is the
    /// [`Exchange::outcome`].
    ///
    /// Dropping the future closes the connection.
    #[expect(clippy::todo, reason = "its body comes with the next commit")]
    pub async fn exchange(&self, body: Bytes, observer: &mut impl Observer) -> Exchange {
        let _ = (body, observer);
        todo!()
    }

    /// Connections that are open now, those in use and those kept for the next request.
    #[must_use]
    #[expect(clippy::todo, reason = "its body comes with the next commit")]
    pub fn open_connections(&self) -> usize {
        todo!()
    }
}
