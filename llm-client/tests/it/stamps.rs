//! Stamps are those of the read that brought the bytes.

use std::sync::mpsc;

use llm_client::{Api, ContentKind, Observer, Outcome};
use precise_time::MonotonicTime;

use crate::server::{DONE, FINISH, Server, assert_ordered, body, script, token};

/// Tells the server when it has heard something.
pub(crate) struct Telling(pub(crate) mpsc::Sender<MonotonicTime>);

impl Observer for Telling {
    fn content(&mut self, at: MonotonicTime, _kind: ContentKind, _text: &str) {
        self.0.send(at).unwrap();
    }
}

#[tokio::test]
async fn each_is_between_the_write_of_its_bytes_and_the_next() {
    let (told, heard) = mpsc::channel();
    let (written, writes) = mpsc::channel();
    let server = Server::start(vec![script(move |mut peer| {
        peer.request();
        let mut write = |bytes: Vec<u8>| {
            written.send(MonotonicTime::now()).unwrap();
            peer.write(bytes);
        };
        let event = token("b");
        let (half, rest) = event.split_at(20);
        // The server waits for each content to be heard, so a read has what one write wrote.
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        write([head, crate::server::chunk(token("a") + half)].concat());
        let a = heard.recv().unwrap();
        write(crate::server::chunk(rest));
        let b = heard.recv().unwrap();
        // Two events in one write have one stamp.
        write(crate::server::chunk(token("c") + &token("d")));
        let (c, d) = (heard.recv().unwrap(), heard.recv().unwrap());
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

/// The head fills the first read to its last byte, so the body comes with the second, though both are there at once.
#[tokio::test]
async fn the_head_has_the_stamp_of_its_own_read() {
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

/// A token for each of many chunks, all of them written at once: more than one read, and none is lost.
#[tokio::test]
async fn a_flood_is_read_in_order() {
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

/// Hears a token and then keeps its thread busy until the server has written the next.
#[cfg(target_os = "linux")]
struct Busy(
    mpsc::Sender<()>,
    mpsc::Receiver<MonotonicTime>,
    Vec<MonotonicTime>,
);

#[cfg(target_os = "linux")]
impl Observer for Busy {
    fn content(&mut self, at: MonotonicTime, _kind: ContentKind, _text: &str) {
        self.2.push(at);
        if self.2.len() == 1 {
            self.0.send(()).unwrap();
            self.1.recv().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    }
}

/// The bytes wait for the thread, and the kernel knows since when.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_busy_client_is_no_slow_server() {
    // The kernel begins to stamp a moment after the first socket has asked it to.
    for _ in 0..100 {
        let (exchange, late) = read_by_a_busy_client().await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        if exchange.first_content_uncertainty.is_zero() {
            let read_late = std::time::Duration::from_millis(30);
            assert!(
                late < read_late / 2,
                "stamped {late:?} after it was written, read {read_late:?} after"
            );
            return;
        }
    }
    panic!("the kernel does not stamp");
}

/// Also how much later than its writing the second token is stamped, which is read 30 ms after.
#[cfg(target_os = "linux")]
async fn read_by_a_busy_client() -> (llm_client::Exchange, std::time::Duration) {
    let (heard, is_heard) = mpsc::channel();
    let (written, is_written) = mpsc::channel();
    let (told, second) = mpsc::channel();
    let server = Server::start(vec![script(move |mut peer| {
        peer.request();
        peer.stream_head();
        peer.chunk(token("a"));
        is_heard.recv().unwrap();
        peer.chunk([&token("b"), FINISH, DONE].concat());
        told.send(MonotonicTime::now()).unwrap();
        peer.end_of_chunks();
        written.send(MonotonicTime::now()).unwrap();
    })]);
    let mut busy = Busy(heard, is_written, Vec::new());
    let exchange = server.client(Api::OpenAiChat).exchange(body(), &mut busy).await;
    server.finish();
    let late = busy.2[1].saturating_since(second.recv().unwrap());
    (exchange, late)
}

/// Only the last one's stamp is known then.
#[tokio::test]
async fn a_first_content_with_more_behind_it_is_uncertain() {
    let (exchange, _) = crate::server::exchanged(Api::OpenAiChat, |peer| {
        peer.stream_head();
        peer.chunk(token("a") + &token("b"));
        peer.chunk([FINISH, DONE].concat());
        peer.end_of_chunks();
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert!(exchange.first_content_uncertainty > std::time::Duration::ZERO);
}
