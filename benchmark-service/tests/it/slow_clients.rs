//! Slow clients must not occupy what others need. The tests use raw sockets and short deadlines.

use std::time::Duration;

use benchmark_service::ClientLimits;
use futures::future::{join, join_all};
use reqwest::Method;
use test_patience::{patience, soon, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::app::{ADMIN, Options, TestApp};

/// actix-web reads its clock twice a second, so a deadline may pass half a second early.
const SHORT: Duration = Duration::from_secs(1);
const AT_LEAST: Duration = Duration::from_millis(500);
/// How long the test watches that nothing happens.
const WATCH: Duration = Duration::from_secs(1);
/// The interval between two bytes of a slow client.
const BETWEEN_BYTES: Duration = Duration::from_millis(50);

/// A service of which all limits are long but those that `change` sets.
async fn app(change: impl FnOnce(&mut ClientLimits)) -> TestApp {
    let long = 10 * patience();
    let mut client_limits = ClientLimits {
        head: long,
        body: long,
        keep_alive: long,
        stalled: long,
        connections: 1000,
    };
    change(&mut client_limits);
    TestApp::with(Options {
        client_limits,
        ..Options::default()
    })
    .await
}

/// Sends `head`, then `drop` again and again until the server closes the connection. Returns the response, and the time
/// until the end.
async fn drip(app: &TestApp, head: &str, drop: &[u8]) -> (String, Duration) {
    let started = Instant::now();
    let (mut reading, mut writing) = TcpStream::connect(app.address).await.unwrap().into_split();
    writing.write_all(head.as_bytes()).await.unwrap();
    let dripping = async {
        while writing.write_all(drop).await.is_ok() {
            tokio::time::sleep(BETWEEN_BYTES).await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        biased;
        () = dripping => unreachable!("dripping never ends"),
        // An abrupt end is an end too.
        _closed = soon("the server closes the connection", reading.read_to_end(&mut said)) => {}
    }
    (String::from_utf8_lossy(&said).into_owned(), started.elapsed())
}

/// The two framings of a body: the header, and the encoding of one byte.
const FRAMINGS: [(&str, &[u8]); 2] = [
    ("Content-Length: 60000", b" "),
    ("Transfer-Encoding: chunked", b"1\r\n \r\n"),
];

fn post(path: &str, framing: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\napi-key: {ADMIN}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_in_is_cut_off_at_its_deadline() {
    let app = app(|limits| limits.body = SHORT).await;
    let requests = ["/api/v1/batches", "/api/v1/llms"]
        .into_iter()
        .flat_map(|path| FRAMINGS.map(|(framing, drop)| (post(path, framing), drop)));
    join_all(requests.map(async |(head, drop)| {
        let (said, after) = drip(&app, &head, drop).await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{head}: {said}");
        assert!(said.contains("application/problem+json"), "{said}");
        assert!(after >= AT_LEAST, "{head}: after {after:?}");
    }))
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_read_does_not_keep_the_connection() {
    let app = app(|_| {}).await;
    let requests = [
        ("GET /healthz HTTP/1.1\r\nHost: test\r\n", "200"),
        ("GET /api/v1/llms HTTP/1.1\r\nHost: test\r\n", "200"),
        (
            "POST /api/v1/llms HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n",
            "401",
        ),
        ("PUT /api/v1/llms HTTP/1.1\r\nHost: test\r\n", "405"),
        ("POST /nothing HTTP/1.1\r\nHost: test\r\n", "404"),
    ]
    .into_iter()
    .flat_map(|request| FRAMINGS.map(|framing| (request, framing)));
    join_all(requests.map(async |((head, status), (framing, drop))| {
        let (said, _) = drip(&app, &format!("{head}{framing}\r\n\r\n"), drop).await;
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{head} {framing}: {said}"
        );
    }))
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_in_is_cut_off_at_its_deadline() {
    let app = app(|limits| limits.head = SHORT).await;
    let slow = "GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: ";
    let ((slow, after), (silent, _)) = join(drip(&app, slow, b"x"), drip(&app, "", b"")).await;
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    assert!(after >= AT_LEAST, "after {after:?}");
    assert!(!silent.contains("200"), "a client that says nothing: {silent}");
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_end_and_keep_nobody_out() {
    let app = app(|limits| limits.keep_alive = SHORT).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut connection = TcpStream::connect(app.address).await.unwrap();
        let ask = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
        connection.write_all(ask).await.unwrap();
        idle.push(connection);
    }
    assert_eq!(app.get("/api/v1/rankings/ttft").await.status(), 200);
    for mut connection in idle {
        let mut said = String::new();
        let closed = soon(
            "an idle connection is closed",
            connection.read_to_string(&mut said),
        );
        closed.await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    }
    app.end().await;
}

/// A connection over the limit waits until another one ends, and is then served.
#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_wait_for_their_turn() {
    let app = app(|limits| limits.connections = 2).await;
    // The workers share the listener; more than all of them together may hold.
    let workers = std::thread::available_parallelism().unwrap().get();
    let mut held = Vec::new();
    for _ in 0..2 * workers + 4 {
        held.push(TcpStream::connect(app.address).await.unwrap());
    }
    let address = app.address;
    let ask = async move {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let ask = b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        connection.write_all(ask).await.unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).await.unwrap();
        said
    };
    tokio::pin!(ask);
    let too_early = timeout(WATCH, &mut ask).await;
    assert!(
        too_early.is_err(),
        "answered while the cap was reached: {too_early:?}"
    );
    drop(held);
    let said = soon("its turn", ask).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    app.end().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_the_client_does_not_read_is_given_up() {
    let app = app(|limits| limits.stalled = SHORT).await;
    let mut connection = TcpStream::connect(app.address).await.unwrap();
    // Many large answers on one connection, far more than the sockets' buffers hold.
    const ASKED: usize = 64;
    let ask = "GET /redoc/redoc.standalone.js HTTP/1.1\r\nHost: test\r\n\r\n".repeat(ASKED);
    connection.write_all(ask.as_bytes()).await.unwrap();
    // Without the body: whoever reads it on a busy machine may be given up too.
    let head = app.request(Method::HEAD, "/redoc/redoc.standalone.js");
    let head = head.send().await.unwrap();
    let size: usize = head.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let (server, client) = (app.address.port(), connection.local_addr().unwrap().port());
    until("the connection is given up", async || !is_open(server, client)).await;
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = connection.read(&mut buffer).await {
        received += n;
    }
    assert!(received < ASKED * size, "all of it was sent: {received} bytes");
    app.end().await;
}

/// Whether the kernel lists the server's end of a connection between two ports of loopback. The client cannot see the end
/// of the connection, because it has not read the response.
#[cfg(target_os = "linux")]
fn is_open(server: u16, client: u16) -> bool {
    let ends = format!(" 0100007F:{server:04X} 0100007F:{client:04X} ");
    std::fs::read_to_string("/proc/self/net/tcp")
        .unwrap()
        .contains(&ends)
}
