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
    Endpoint, Exchange, Limits, Observer, Outcome, StreamError, TransportError,
    api::EventDecoder,
    response_body::{follow_response, read_refusal, transport_failure},
    response_recorder::ResponseRecorder,
    wire::{Connection, Connector, OpenConnectionGuard, ReadBuffer, RequestHead, ResponseStart},
};

/// Sends requests to one endpoint, and keeps the connections of one thread to it. `!Send`; a clone is another handle to the same
/// connections. The number of connections has no limit: every concurrent request has its own.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    head: RequestHead,
    limits: Limits,
    connector: Connector,
    /// A stack: the connection that was used last is used next, so that fewer connections are in use and the others may close.
    idle: RefCell<Vec<Connection>>,
    open_connections: Rc<Cell<usize>>,
    buffer: ReadBuffer,
}

impl Client {
    /// A client without connections. The first request resolves the host and connects.
    #[must_use]
    pub fn new(endpoint: Endpoint, limits: Limits) -> Self {
        let mut headers = endpoint.headers.clone();
        if !limits.keep_alive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let connector = Connector::new(&endpoint.host, endpoint.port, endpoint.tls.clone());
        Self {
            shared: Rc::new(Shared {
                head: RequestHead::post(&endpoint.target, &headers),
                endpoint,
                limits,
                connector,
                idle: RefCell::default(),
                open_connections: Rc::default(),
                buffer: ReadBuffer::new(),
            }),
        }
    }

    /// Sends `body` (from [`Endpoint::encode`]) and reads the response to its end. Failures are reported as the [`Exchange::outcome`].
    ///
    /// A connection is used again only after a complete response. When the server closes such a connection without a response,
    /// the request is sent once more on a new one, as RFC 9112 (9.3.1) allows: the server had closed it before the request
    /// arrived. llama.cpp's server closes connections right after every stream, although it promises `Keep-Alive`.
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime that drives I/O and time.
    pub async fn exchange(&self, body: Bytes, observer: &mut impl Observer) -> Exchange {
        let mut record = Exchange::new();
        let outcome = {
            let outcome = pin!(self.shared.outcome(body, observer, &mut record));
            within(self.shared.limits.request_timeout, outcome).await
        };
        if let Some(outcome) = outcome {
            record.outcome = outcome.unwrap_or_else(|failure| failure);
        }
        record
    }

    /// The endpoint of all requests.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// The number of open connections, in use or idle. One that the server closed counts until this client tries to use it.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open_connections.get()
    }
}

impl Shared {
    /// The error is the outcome of a request that failed early.
    async fn outcome(
        &self,
        body: Bytes,
        observer: &mut impl Observer,
        record: &mut Exchange,
    ) -> Result<Outcome, Outcome> {
        // Boxed, so that the future does not hold the state of the beginning for as long as the stream lasts.
        let (mut connection, response) = Box::pin(self.begin(body, record)).await?;
        record.response_head = Some(connection.received().at);
        let (outcome, is_reusable) = if response.head.is_success() {
            let decoder = EventDecoder::new(self.endpoint.api());
            let recorder = ResponseRecorder::new(decoder, &self.limits, record, observer);
            follow_response(&mut connection, response, recorder, self.limits.end_timeout).await?
        } else {
            read_refusal(&mut connection, response, record, self.limits.refusal_timeout).await
        };
        if is_reusable && self.limits.keep_alive {
            // A response may have ended without content.
            connection.content_began();
            self.idle.borrow_mut().push(connection);
        }
        Ok(outcome)
    }

    /// Sends the request and waits for the head of the response.
    async fn begin(
        &self,
        body: Bytes,
        record: &mut Exchange,
    ) -> Result<(Connection, ResponseStart), Outcome> {
        let head = self.head.with_length(body.len());
        let max_head_bytes = self.limits.head_bytes();
        if let Some(mut connection) = self.idle_connection() {
            record.reused = true;
            let response = connection
                .send(&head, &body, max_head_bytes, &mut record.sent)
                .await;
            match response {
                Ok(response) => return Ok((connection, response)),
                Err(error)
                    if is_closed_without_response(&error)
                        && !may_have_been_processed(record, self.limits.round_trip) =>
                {
                    record.reused = false;
                    record.sent_again = true;
                }
                Err(error) => return Err(transport_failure(error)),
            }
        }
        let mut connection = self.connect().await?;
        record.connected = Some(MonotonicTime::now());
        let response = connection
            .send(&head, &body, max_head_bytes, &mut record.sent)
            .await;
        Ok((connection, response.map_err(transport_failure)?))
    }

    async fn connect(&self) -> Result<Connection, Outcome> {
        let limit = self.limits.connect_timeout;
        let connecting = self.connector.connect(limit);
        let Ok(connected) = tokio::time::timeout(limit, connecting).await else {
            let host = self.connector.host_and_port();
            return Err(Outcome::StreamError(StreamError::ConnectTimeout { host, limit }));
        };
        Ok(Connection::new(
            connected?,
            self.buffer.clone(),
            OpenConnectionGuard::new(&self.open_connections),
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

/// The result of `future`, or `None` when it takes longer than `limit`.
///
/// `tokio::time::timeout` polls its timer with every poll of the future, which is for every token. This function polls the timer once, to
/// register the waker, and again when it may have expired.
async fn within<T>(limit: Duration, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut timer = pin!(tokio::time::sleep(limit));
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        let is_registered = registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && !timer.is_elapsed() {
            return Poll::Pending;
        }
        registered = Some(cx.waker().clone());
        // Outside of tokio's budget for tasks, so that the timer is registered even when the budget is used up.
        pin!(unconstrained(timer.as_mut())).poll(cx).map(|()| None)
    })
    .await
}

/// Whether a request without a response was sent so long ago that the server may have processed it. A server that had closed the
/// connection before the request arrived says so within a round trip.
fn may_have_been_processed(record: &Exchange, round_trip: Duration) -> bool {
    record
        .sent
        .is_some_and(|sent| MonotonicTime::now().saturating_since(sent) > round_trip)
}

fn is_closed_without_response(error: &TransportError) -> bool {
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

    /// A load test holds ten thousand of these futures.
    #[test]
    fn an_exchange_is_small() {
        let endpoint = Endpoint::new(Api::OpenAiChat, "http://h/v1", None).unwrap();
        let client = Client::new(endpoint, Limits::default());
        let bytes = size_of_val(&client.exchange(Bytes::new(), &mut ()));
        assert!(bytes <= 2048, "{bytes} bytes");
    }
}
