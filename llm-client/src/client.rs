use std::{
    cell::{Cell, RefCell},
    error::Error as _,
    future::poll_fn,
    io::{
        self,
        ErrorKind::{BrokenPipe, ConnectionReset},
    },
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONNECTION};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::TrySendError};
use precise_time::MonotonicTime;

use crate::{
    Endpoint, Exchange, Observer, Outcome, StreamError,
    answer::Answer,
    body::Body,
    connect::Connector,
    connection::{Connection, Open, Rounds},
    decode::Decoder,
};

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
    headers: HeaderMap,
    limits: Limits,
    connector: Connector,
    /// The last one that was used is used first: the others may close, and fewer are warm.
    idle: RefCell<Vec<Connection>>,
    open: Rc<Cell<usize>>,
    rounds: Rounds,
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
                endpoint,
                headers,
                limits,
                connector,
                idle: RefCell::default(),
                open: Rc::default(),
                rounds: Rounds::new(),
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
        let outcome = self.shared.outcome(body, observer, &mut record);
        if let Ok(outcome) = tokio::time::timeout(self.shared.limits.request_timeout, outcome).await {
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
        let (mut connection, response) = Box::pin(self.begin(body, record)).await?;
        let head = connection.last_read();
        record.response_head = Some(head);
        let (parts, body) = response.into_parts();
        let mut body = Body::new(&mut connection, body);
        let outcome = if parts.status.is_success() {
            // The headers are slices of the buffer that they were read into: while they are there, hyper reads into a second one
            // of 8 KiB.
            drop(parts);
            let decoder = Decoder::new(self.endpoint.api);
            body.follow(Answer::new(decoder, &self.limits, record, observer))
                .await?
        } else {
            body.refusal(&parts, record).await
        };
        if record.closed.is_some() {
            self.keep(connection).await;
        }
        Ok(outcome)
    }

    /// Sends the request and waits for the head of the answer.
    async fn begin(
        &self,
        body: Bytes,
        record: &mut Exchange,
    ) -> Result<(Connection, Response<Incoming>), Outcome> {
        if let Some(mut connection) = self.idle_connection().await {
            record.reused = true;
            match head(&mut connection, self.request(body.clone()), record).await {
                Ok(response) => return Ok((connection, response)),
                Err(error) if was_closed_instead(&error) && !was_in_service(record) => record.reused = false,
                Err(error) => return Err(failed(error.into_error())),
            }
        }
        let mut connection = self.connect().await?;
        record.connected = Some(MonotonicTime::now());
        match head(&mut connection, self.request(body), record).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => Err(failed(error.into_error())),
        }
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.target.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    async fn connect(&self) -> Result<Connection, Outcome> {
        let limit = self.limits.connect_timeout;
        let connecting = self.connector.connect(&self.endpoint);
        let Ok(connected) = tokio::time::timeout(limit, connecting).await else {
            let host = self.connector.place();
            return Err(Outcome::StreamError(StreamError::ConnectTimeout { host, limit }));
        };
        let (transport, gauge) = connected?;
        let (rounds, open) = (self.rounds.clone(), Open::new(&self.open));
        Connection::new(transport, gauge, rounds, open, self.limits.max_head_bytes)
            .await
            .map_err(failed)
    }

    async fn idle_connection(&self) -> Option<Connection> {
        poll_fn(|cx| {
            loop {
                let Some(mut connection) = self.idle.borrow_mut().pop() else {
                    return Poll::Ready(None);
                };
                if connection.is_alive(cx) {
                    return Poll::Ready(Some(connection));
                }
            }
        })
        .await
    }

    async fn keep(&self, mut connection: Connection) {
        if self.limits.keep_alive && poll_fn(|cx| Poll::Ready(connection.is_idle(cx))).await {
            connection.rest();
            self.idle.borrow_mut().push(connection);
        }
    }
}

async fn head(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    record: &mut Exchange,
) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
    let mut response = pin!(connection.send(request));
    poll_fn(|cx| {
        let polled = connection.poll(cx, |cx| response.as_mut().poll(cx));
        // Here and not after the answer: it may never come.
        record.sent = connection.first_write();
        polled
    })
    .await
}

/// Whether a request that got no answer had been with the server for so long that it may have worked on it: a server that had
/// closed before it came says so within a round trip.
fn was_in_service(record: &Exchange) -> bool {
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    record
        .sent
        .is_some_and(|sent| MonotonicTime::now().saturating_since(sent) > ROUND_TRIP)
}

/// Whether the server closed the connection and answered nothing.
fn was_closed_instead(error: &TrySendError<Request<Full<Bytes>>>) -> bool {
    let was_sent = error.message().is_none();
    let error = error.error();
    let broken = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    !was_sent
        || error.is_incomplete_message()
        || broken.is_some_and(|error| matches!(error.kind(), ConnectionReset | BrokenPipe))
}

fn failed(error: hyper::Error) -> Outcome {
    Outcome::StreamError(StreamError::Transport(error))
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
