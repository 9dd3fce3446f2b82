use std::time::Duration;

/// Limits of time and size for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The time to establish a connection, TLS included. When it passes, the request ends with
    /// [`StreamError::ConnectTimeout`](crate::StreamError::ConnectTimeout).
    pub connect_timeout: Duration,
    /// From the call of [`Client::exchange`](crate::Client::exchange) to the end of the response.
    pub request_timeout: Duration,
    /// From the API's own end of a stream to the end of its HTTP message. Servers send both at once. When a server does not send the
    /// second in this time, the response counts as complete, and its connection serves no other request.
    pub end_timeout: Duration,
    /// From the head of an error response to the end of its body, which only adds a message to the status.
    pub refusal_timeout: Duration,
    /// The longest expected network round trip to the server. When a connection is closed later than this after a request was sent, the
    /// server may have processed the request, so it is not sent again.
    pub round_trip: Duration,
    /// The largest line of a stream, and the largest data of one event, in bytes. Bounds the memory that a stream takes.
    pub max_line_bytes: usize,
    /// The largest body of a response, in bytes.
    pub max_body_bytes: usize,
    /// The largest status line and headers of a response, in bytes. Values below 8 KiB are raised to 8 KiB.
    pub max_head_bytes: usize,
    /// Whether a connection serves further requests.
    pub keep_alive: bool,
}

/// The least value of [`Limits::max_head_bytes`] that is used.
const MIN_HEAD_BYTES: usize = 8 << 10;

impl Limits {
    /// [`Self::max_head_bytes`], raised to its least value.
    pub(crate) fn head_bytes(&self) -> usize {
        self.max_head_bytes.max(MIN_HEAD_BYTES)
    }
}

impl Default for Limits {
    /// 10 s to connect, 600 s in total, 250 ms for the end of a message, 5 s for the body of an error response, a round trip of 100 ms,
    /// lines of 16 MiB, bodies of 256 MiB, heads of 64 KiB, connections kept.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(600),
            end_timeout: Duration::from_millis(250),
            refusal_timeout: Duration::from_secs(5),
            round_trip: Duration::from_millis(100),
            max_line_bytes: 16 << 20,
            max_body_bytes: 256 << 20,
            max_head_bytes: 64 << 10,
            keep_alive: true,
        }
    }
}
