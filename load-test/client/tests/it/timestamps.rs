//! Timestamps of received bytes.

use std::{sync::mpsc, time::Duration};

use llm_client::{Api, ContentKind, Observer, Outcome};
use precise_time::MonotonicTime;

use crate::server::{DONE, FINISH, Server, assert_ordered, body, script, token};

/// Signals the server after every content.
pub(crate) struct Telling(pub(crate) mpsc::Sender<MonotonicTime>);

impl Observer for Telling {
    fn content(&mut self, at: MonotonicTime, _kind: ContentKind, _text: &str) {
        self.0.send(at).unwrap();
    }
}

#[tokio::test]
async fn a_timestamp_is_between_the_write_of_its_bytes_and_the_next_write() {
    let (told, observed) = mpsc::channel();
    let (written, writes) = mpsc::channel();
    let server = Server::start(vec![script(move |mut peer| {
        peer.request();
        let mut write = |bytes: Vec<u8>| {
            written.send(MonotonicTime::now()).unwrap();
            peer.write(bytes);
        };
        let event = token("b");
        let (half, rest) = event.split_at(20);
        // The server waits until each content is observed, so one read returns the bytes of one write.
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        write([head, crate::server::chunk(token("a") + half)].concat());
        let a = observed.recv().unwrap();
        write(crate::server::chunk(rest));
        let b = observed.recv().unwrap();
        // Two events in one write have the same timestamp.
        write(crate::server::chunk(token("c") + &token("d")));
        let (c, d) = (observed.recv().unwrap(), observed.recv().unwrap());
        write(
            [
                crate::server::chunk([FINISH, DONE].concat()),
                b"0\r\n\r\n".to_vec(),
            ]
            .concat(),
        );
        assert!(a < b && b < c && c == d);
    })]);
    let exchange = server
        .client(Api::OpenAiChat)
        .exchange(body(), &mut Telling(told))
        .await;
    server.finish();
    let writes: Vec<_> = writes.iter().collect();
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_ordered(&exchange);
    let between = |stamp: Option<MonotonicTime>, nth: usize| {
        let stamp = stamp.unwrap();
        stamp > writes[nth] && writes.get(nth + 1).is_none_or(|next| stamp < *next)
    };
    assert!(between(exchange.response_head, 0));
    assert!(between(exchange.first_content, 0));
    assert!(between(exchange.last_content, 2));
    assert!(between(exchange.closed, 3));
    assert_eq!(
        exchange.response_head, exchange.first_content,
        "one read brought both"
    );
}

/// The head fills the first read completely, so the second read returns the body, although both are received together.
#[tokio::test]
async fn the_head_has_the_timestamp_of_its_own_read() {
    const FIRST_READ: usize = 8192;
    let (exchange, _) = crate::server::exchanged(Api::OpenAiChat, |peer| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx: ";
        let padding = "x".repeat(FIRST_READ - head.len() - 4);
        let body = crate::server::chunk([&token("a"), FINISH, DONE].concat());
        peer.write([head.as_bytes(), padding.as_bytes(), b"\r\n\r\n", &body].concat());
        peer.end_of_chunks();
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert!(exchange.sent < exchange.response_head);
    assert!(exchange.response_head <= exchange.first_content, "{exchange:?}");
    assert_ordered(&exchange);
}

/// Many tokens are written at once, which takes more than one read. None is lost.
#[tokio::test]
async fn many_tokens_at_once_are_read_in_order() {
    const TOKENS: usize = 20_000;
    struct Counting(usize, Option<MonotonicTime>);
    impl Observer for Counting {
        fn content(&mut self, at: MonotonicTime, _kind: ContentKind, text: &str) {
            assert_eq!(text.parse(), Ok(self.0));
            assert!(self.1 <= Some(at));
            *self = Self(self.0 + 1, Some(at));
        }
    }
    let server = Server::start(vec![script(|mut peer| {
        peer.request();
        peer.stream_head();
        let mut all = Vec::new();
        for nth in 0..TOKENS {
            all.extend(crate::server::chunk(token(&nth.to_string())));
        }
        peer.write(all);
        peer.chunk([FINISH, DONE].concat());
        peer.end_of_chunks();
    })]);
    let mut counting = Counting(0, None);
    let exchange = server
        .client(Api::OpenAiChat)
        .exchange(body(), &mut counting)
        .await;
    server.finish();
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!((counting.0, exchange.content_chunks as usize), (TOKENS, TOKENS));
    assert_ordered(&exchange);
}

/// After a token, keeps the thread busy until some time after the server has written the next one.
#[cfg(target_os = "linux")]
struct Busy {
    observed: mpsc::Sender<()>,
    is_written: mpsc::Receiver<()>,
    tokens: Vec<MonotonicTime>,
    /// When the thread may read again.
    free: Option<MonotonicTime>,
}

#[cfg(target_os = "linux")]
impl Observer for Busy {
    fn content(&mut self, at: MonotonicTime, _kind: ContentKind, _text: &str) {
        self.tokens.push(at);
        if self.free.is_none() {
            self.observed.send(()).unwrap();
            self.is_written.recv().unwrap();
            std::thread::sleep(Duration::from_millis(30));
            self.free = Some(MonotonicTime::now());
        }
    }
}

/// The bytes wait for the busy thread, but the kernel has the time at which they were received.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_busy_client_does_not_make_the_server_look_slow() {
    // The kernel's timestamps begin a moment after the first socket has asked for them.
    let busy = test_patience::found("a timestamp of the kernel", async || {
        let (exchange, busy) = read_by_a_busy_client().await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        exchange.first_content_uncertainty.is_zero().then_some(busy)
    });
    let Busy { tokens, free, .. } = busy.await;
    assert!(
        Some(tokens[1]) < free,
        "stamped at {:?}, read after {free:?}",
        tokens[1]
    );
}

#[cfg(target_os = "linux")]
async fn read_by_a_busy_client() -> (llm_client::Exchange, Busy) {
    let (observed, is_heard) = mpsc::channel();
    let (written, is_written) = mpsc::channel();
    let server = Server::start(vec![script(move |mut peer| {
        peer.request();
        peer.stream_head();
        peer.chunk(token("a"));
        is_heard.recv().unwrap();
        peer.chunk([&token("b"), FINISH, DONE].concat());
        peer.end_of_chunks();
        written.send(()).unwrap();
    })]);
    let mut busy = Busy {
        observed,
        is_written,
        tokens: Vec::new(),
        free: None,
    };
    let exchange = server.client(Api::OpenAiChat).exchange(body(), &mut busy).await;
    server.finish();
    (exchange, busy)
}

/// Events that are read together have the timestamp of the last one.
#[tokio::test]
async fn a_first_content_that_is_read_with_later_bytes_is_uncertain() {
    let (exchange, _) = crate::server::exchanged(Api::OpenAiChat, |peer| {
        // The head is in the same write, so no earlier read found the socket empty.
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        peer.write([head, crate::server::chunk(token("a") + &token("b"))].concat());
        peer.chunk([FINISH, DONE].concat());
        peer.end_of_chunks();
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert!(exchange.first_content_uncertainty > Duration::ZERO);
}
