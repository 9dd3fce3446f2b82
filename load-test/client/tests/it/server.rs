//! A server on loopback that follows a script.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use llm_client::{Api, Client, ContentKind, Endpoint, Exchange, Generation, Limits, Observer, Prompt};
use precise_time::MonotonicTime;
use test_patience::patience;

/// The server's end of one connection. Tests of TLS replace the socket by a session.
pub(crate) struct Peer<S = TcpStream>(pub(crate) S);

type Script = Box<dyn FnOnce(Peer) + Send>;

/// Serves connections one after the other, each with a script of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            for script in scripts {
                let (socket, _) = listener.accept().unwrap();
                socket.set_nodelay(true).unwrap();
                script(Peer(socket));
            }
        });
        Self { address, thread }
    }

    /// Waits for the end of all scripts. Panics if one of their assertions failed.
    pub(crate) fn finish(self) {
        self.thread.join().unwrap();
    }

    pub(crate) fn client(&self, api: Api) -> Client {
        self.client_within(api, limits())
    }

    pub(crate) fn client_within(&self, api: Api, limits: Limits) -> Client {
        let base = format!("http://{}/v1", self.address);
        Client::new(Endpoint::new(api, &base, None).unwrap(), limits)
    }
}

/// One script that serves one connection.
pub(crate) fn script(script: impl FnOnce(Peer) + Send + 'static) -> Script {
    Box::new(script)
}

/// Limits that no correct test reaches, however slow the machine is.
pub(crate) fn limits() -> Limits {
    Limits {
        connect_timeout: patience(),
        request_timeout: patience(),
        end_timeout: patience(),
        refusal_timeout: patience(),
        round_trip: patience(),
        ..Limits::default()
    }
}

/// The exchange of one request that `serve` responds to; the connection is closed afterwards.
pub(crate) async fn exchanged(
    api: Api,
    serve: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Exchange, ObservedContent) {
    exchanged_within(api, limits(), serve).await
}

pub(crate) async fn exchanged_within(
    api: Api,
    limits: Limits,
    serve: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Exchange, ObservedContent) {
    let server = Server::start(vec![script(|mut peer| {
        peer.request();
        serve(&mut peer);
    })]);
    let mut observed = ObservedContent::default();
    let exchange = server
        .client_within(api, limits)
        .exchange(body(), &mut observed)
        .await;
    server.finish();
    (exchange, observed)
}

/// Waits until tokio has processed the earlier events of all sockets. It processes the event of a new connection after them.
pub(crate) async fn until_tokio_has_seen_the_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::net::TcpStream::connect(address).await.unwrap();
}

/// A request's body, which the servers of these tests ignore.
pub(crate) fn body() -> Bytes {
    let generation = Generation {
        model: "m",
        prompt: Prompt::Text("hello"),
        max_tokens: Some(16),
        stream: true,
        sampling: &serde_json::Map::new(),
    };
    let endpoint = Endpoint::new(Api::OpenAiChat, "http://localhost/v1", None).unwrap();
    endpoint.encode(&generation)
}

impl<S: Read + Write> Peer<S> {
    /// Reads one request and returns its head and body.
    pub(crate) fn request(&mut self) -> (String, String) {
        self.maybe_request().expect("a request")
    }

    /// `None` where the client closed the connection instead.
    pub(crate) fn maybe_request(&mut self) -> Option<(String, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(0) | Err(_) => return None,
                Ok(_) => head.push(byte[0]),
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Some((head, String::from_utf8(body).unwrap()))
    }

    /// Writes, and ignores errors, because the client may have closed the connection.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref());
        let _ = self.0.flush();
    }

    pub(crate) fn stream_head(&mut self) {
        self.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        );
    }

    /// One HTTP chunk.
    pub(crate) fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(chunk(bytes));
    }

    pub(crate) fn end_of_chunks(&mut self) {
        self.write("0\r\n\r\n");
    }

    /// A complete response that is not a stream.
    pub(crate) fn answer(&mut self, status: &str, headers: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.write([head.as_bytes(), body].concat());
    }

    /// Waits until the client closes.
    pub(crate) fn until_closed(&mut self) {
        let mut rest = Vec::new();
        // Closing with unread data is an error here, which does not matter.
        let _ = self.0.read_to_end(&mut rest);
    }
}

impl Peer {
    /// Resets the connection, so that the client's next read fails.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.0);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Closes the writing side, so that the client reads an end of the stream.
    pub(crate) fn close(self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// `bytes` as one HTTP chunk.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// An event of OpenAI's chat API with this content.
pub(crate) fn token(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        r#"data: {{"id":"c","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
    ) + "\n\n"
}

pub(crate) const FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// All contents that an observer received.
#[derive(Debug, Default)]
pub(crate) struct ObservedContent(pub(crate) Vec<(MonotonicTime, ContentKind, String)>);

impl Observer for ObservedContent {
    fn content(&mut self, at: MonotonicTime, kind: ContentKind, text: &str) {
        self.0.push((at, kind, text.to_owned()));
    }
}

impl ObservedContent {
    pub(crate) fn text(&self, of: ContentKind) -> String {
        let texts = self.0.iter().filter(|(_, kind, _)| *kind == of);
        texts.map(|(_, _, text)| text.as_str()).collect()
    }

    pub(crate) fn answer(&self) -> String {
        self.text(ContentKind::Answer)
    }
}

/// Checks the order of the known times.
pub(crate) fn assert_ordered(exchange: &Exchange) {
    let stamps = [
        exchange.connected,
        exchange.sent,
        exchange.response_head,
        exchange.first_content,
        exchange.last_content,
        exchange.closed,
    ];
    let there: Vec<_> = stamps.into_iter().flatten().collect();
    assert!(there.is_sorted(), "{exchange:?}");
    assert!(
        exchange
            .first_answer
            .is_none_or(|first| Some(first) >= exchange.first_content)
    );
}
