use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header::CONNECTION};
use precise_time::MonotonicTime;
use tokio::task::coop::unconstrained;

use crate::{
    Endpoint, Exchange, Observer, Outcome, StreamError,
    answer::Answer,
    body::{failed, follow, refusal},
    connect::Connector,
    connection::{Answered, Connection, Open, ReadBuffer},
    decode::Decoder,
    http1::{RequestHead, TransportError},
};

/// What a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands, TLS included. A connection that does not stand by then is a
    /// [`StreamError::ConnectTimeout`](crate::StreamError::ConnectTimeout).
    pub connect_timeout: Duration,
    /// From the call of [`Client::exchange`] to the end of the answer.
    pub request_timeout: Duration,
    /// From the API's own end of a stream to the end of its HTTP message. Servers send both at once; the answer is not held up by one that
    /// does not. Such a connection serves no other request.
    pub end_timeout: Duration,
    /// From the head of a refusal to the end of its message: its status has said the most.
    pub refusal_timeout: Duration,
    /// The longest way to the server and back. Where a connection is closed later than that after a request was sent, the server may have
    /// worked on the request, and it is not sent again.
    pub round_trip: Duration,
    /// One line of a stream, and the data of one event. It bounds the memory of a stream.
    pub max_line_bytes: usize,
    /// The body of an answer that is not streamed.
    pub max_body_bytes: usize,
    /// Status line and headers of an answer. At least 8 KiB: less is taken as 8 KiB.
    pub max_head_bytes: usize,
    /// Whether a connection serves further requests.
    pub keep_alive: bool,
}

/// Of [`Limits::max_head_bytes`].
const LEAST_HEAD_BYTES: usize = 8 << 10;

impl Default for Limits {
    /// 10 s to connect, 600 s for all, 250 ms for the end of a message, 5 s for a refusal's, a round trip of 100 ms, lines of 16 MiB,
    /// bodies of 256 MiB, heads of 64 KiB, connections kept.
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

/// The connections of one thread to one endpoint, and the requests over them. `!Send`; a clone is another handle on the same
/// connections. There is no limit on connections: as many as there are requests at once.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    head: RequestHead,
    limits: Limits,
    connector: Connector,
    /// The last one that was used is used first: the others may close, and fewer are warm.
    idle: RefCell<Vec<Connection>>,
    open: Rc<Cell<usize>>,
    buffer: ReadBuffer,
}

impl Client {
    /// A client without connections. Nothing is resolved or connected before the first request.
    #[must_use]
    pub fn new(endpoint: Endpoint, limits: Limits) -> Self {
        let mut headers = endpoint.headers.clone();
        if !limits.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let connector = Connector::new(&endpoint);
        Self {
            shared: Rc::new(Shared {
                head: RequestHead::post(&endpoint.target, &headers),
                endpoint,
                limits,
                connector,
                idle: RefCell::default(),
                open: Rc::default(),
                buffer: ReadBuffer::new(),
            }),
        }
    }

    /// Sends `body` (from [`Endpoint::encode`]) and follows the answer to its end. Never fails: what went wrong is the
    /// [`Exchange::outcome`].
    ///
    /// A connection is used again only after a whole answer. Where the server closed one that had served another request
    /// instead of answering this one, the request goes out once more, on a new one, as RFC 9112 (9.3.1) has it: such a
    /// server had closed before the request came. llama.cpp's closes after every stream, just behind its end, and promises
    /// `Keep-Alive` before.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime that drives I/O and time.
    pub async fn exchange(&self, body: Bytes, observer: &mut impl Observer) -> Exchange {
        let mut record = Exchange::begun();
        let outcome = {
            let outcome = pin!(self.shared.outcome(body, observer, &mut record));
            within(self.shared.limits.request_timeout, outcome).await
        };
        if let Some(outcome) = outcome {
            record.outcome = outcome.unwrap_or_else(|failed| failed);
        }
        record
    }

    /// Where its requests go.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Connections that are open now, those in use and those kept for the next request. What the server closed counts until
    /// it is tried.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open.get()
    }
}

impl Shared {
    /// Both are outcomes; the second kind is the one that ends it early.
    async fn outcome(
        &self,
        body: Bytes,
        observer: &mut impl Observer,
        record: &mut Exchange,
    ) -> Result<Outcome, Outcome> {
        // Boxed, so that a stream does not hold for as long as it lasts what only its beginning needs.
        let (mut connection, answered) = Box::pin(self.begin(body, record)).await?;
        record.response_head = Some(connection.arrival().at);
        let (outcome, is_reusable) = if (200..300).contains(&answered.head.status) {
            let answer = Answer::new(Decoder::new(self.endpoint.api), &self.limits, record, observer);
            follow(&mut connection, answered, answer, self.limits.end_timeout).await?
        } else {
            refusal(&mut connection, answered, record, self.limits.refusal_timeout).await
        };
        if is_reusable && self.limits.keep_alive {
            // Also where the answer had none.
            connection.content_began();
            self.idle.borrow_mut().push(connection);
        }
        Ok(outcome)
    }

    /// Sends the request and waits for the head of the answer.
    async fn begin(&self, body: Bytes, record: &mut Exchange) -> Result<(Connection, Answered), Outcome> {
        let head = self.head.with_length(body.len());
        let max_head_bytes = self.limits.max_head_bytes.max(LEAST_HEAD_BYTES);
        if let Some(mut connection) = self.idle_connection() {
            record.reused = true;
            match connection
                .ask(&head, &body, max_head_bytes, &mut record.sent)
                .await
            {
                Ok(answered) => return Ok((connection, answered)),
                Err(error)
                    if was_closed_instead(&error) && !was_in_service(record, self.limits.round_trip) =>
                {
                    record.reused = false;
                    record.sent_again = true;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let mut connection = self.connect().await?;
        record.connected = Some(MonotonicTime::now());
        let answered = connection
            .ask(&head, &body, max_head_bytes, &mut record.sent)
            .await;
        Ok((connection, answered.map_err(failed)?))
    }

    async fn connect(&self) -> Result<Connection, Outcome> {
        let limit = self.limits.connect_timeout;
        let connecting = self.connector.connect(&self.endpoint, limit);
        let Ok(connected) = tokio::time::timeout(limit, connecting).await else {
            let host = self.connector.place();
            return Err(Outcome::StreamError(StreamError::ConnectTimeout { host, limit }));
        };
        Ok(Connection::new(
            connected?,
            self.buffer.clone(),
            Open::new(&self.open),
        ))
    }

    fn idle_connection(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.is_alive() {
                return Some(connection);
            }
        }
    }
}

/// What `future` gives, or `None` where it takes longer than `limit`.
///
/// `tokio::time::timeout` looks at its timer whenever the future is polled, which is for every token. Here the timer is looked at once, to
/// leave the waker there, and again when it may have gone off.
async fn within<T>(limit: Duration, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut alarm = pin!(tokio::time::sleep(limit));
    let mut wakes: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        let is_set = wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_set && !alarm.is_elapsed() {
            return Poll::Pending;
        }
        wakes = Some(cx.waker().clone());
        // However much this task has done in its turn, the timer is set.
        pin!(unconstrained(alarm.as_mut())).poll(cx).map(|()| None)
    })
    .await
}

/// Whether a request that got no answer had been with the server for so long that it may have worked on it: a server that had
/// closed before it came says so within a round trip.
fn was_in_service(record: &Exchange, round_trip: Duration) -> bool {
    record
        .sent
        .is_some_and(|sent| MonotonicTime::now().saturating_since(sent) > round_trip)
}

/// Whether the server closed the connection and answered nothing.
fn was_closed_instead(error: &TransportError) -> bool {
    match error {
        TransportError::ClosedUnanswered => true,
        TransportError::Io(error) => matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::Api;

    use super::*;

    /// Ten thousand streams are ten thousand of these.
    #[test]
    fn an_exchange_is_small() {
        let endpoint = Endpoint::new(Api::OpenAiChat, "http://h/v1", None).unwrap();
        let client = Client::new(endpoint, Limits::default());
        let bytes = size_of_val(&client.exchange(Bytes::new(), &mut ()));
        assert!(bytes <= 2048, "{bytes} bytes");
    }
}
