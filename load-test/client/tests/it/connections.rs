//! The choice of a connection for a request.

use std::{sync::mpsc, time::Duration};

use llm_client::{Api, Client, Endpoint, Limits, Outcome, StreamError};
use shared_types::Secret;

use crate::server::{
    DONE, FINISH, Peer, Server, assert_ordered, body, limits, script, token, until_tokio_has_seen_the_sockets,
};

fn serve_one(peer: &mut Peer) {
    peer.request();
    peer.stream_head();
    peer.chunk([&token("a"), FINISH, DONE].concat());
    peer.end_of_chunks();
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let server = Server::start(vec![script(|mut peer| {
        for _ in 0..3 {
            serve_one(&mut peer);
        }
        peer.request();
        peer.answer("503 Busy", "", "later");
        serve_one(&mut peer);
        peer.until_closed();
    })]);
    let client = server.client(Api::OpenAiChat);
    for nth in 0..5 {
        let exchange = client.exchange(body(), &mut ()).await;
        assert_eq!(exchange.reused, nth > 0);
        assert_eq!(exchange.connected.is_some(), nth == 0);
        assert_eq!(matches!(exchange.outcome, Outcome::Ok), nth != 3, "{exchange:?}");
        assert_ordered(&exchange);
        assert_eq!(client.open_connections(), 1);
    }
    drop(client);
    server.finish();
}

/// The server closes a connection between two requests. `meanwhile` runs after that.
async fn after_a_close<F: Future<Output = ()>>(meanwhile: impl FnOnce() -> F) {
    let (answered, is_answered) = mpsc::channel();
    let (closed, is_closed) = mpsc::channel();
    let server = Server::start(vec![
        script(move |mut peer| {
            serve_one(&mut peer);
            is_answered.recv().unwrap();
            peer.close();
            closed.send(()).unwrap();
        }),
        script(|mut peer| serve_one(&mut peer)),
    ]);
    let client = server.client(Api::OpenAiChat);
    assert!(matches!(
        client.exchange(body(), &mut ()).await.outcome,
        Outcome::Ok
    ));
    assert_eq!(client.open_connections(), 1);
    answered.send(()).unwrap();
    is_closed.recv().unwrap();
    meanwhile().await;
    let second = client.exchange(body(), &mut ()).await;
    assert!(matches!(second.outcome, Outcome::Ok), "{second:?}");
    assert!(!second.reused && second.connected.is_some());
    assert_ordered(&second);
    server.finish();
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    after_a_close(until_tokio_has_seen_the_sockets).await;
}

/// The client awaits nothing after the server closed, so tokio does not know of it.
#[tokio::test]
async fn a_connection_that_was_closed_just_now_is_replaced() {
    after_a_close(|| std::future::ready(())).await;
}

/// The server closes while the next request is on its way, as llama.cpp's does after every stream.
async fn a_close_that_crossed_the_request(close: impl FnOnce(Peer) + Send + 'static) {
    let server = Server::start(vec![
        script(move |mut peer| {
            serve_one(&mut peer);
            peer.request();
            close(peer);
        }),
        script(|mut peer| serve_one(&mut peer)),
    ]);
    let client = server.client(Api::OpenAiChat);
    let first = client.exchange(body(), &mut ()).await;
    assert!(matches!(first.outcome, Outcome::Ok), "{first:?}");
    let second = client.exchange(body(), &mut ()).await;
    assert!(matches!(second.outcome, Outcome::Ok), "{second:?}");
    assert!(!second.reused && second.connected.is_some());
    assert_ordered(&second);
    server.finish();
}

#[tokio::test]
async fn a_request_that_crosses_a_close_is_sent_again() {
    a_close_that_crossed_the_request(Peer::close).await;
    a_close_that_crossed_the_request(Peer::reset).await;
}

/// A server that has had the request for longer than a round trip may have processed it.
#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let closes: [fn(Peer); 2] = [Peer::close, Peer::reset];
    for close in closes {
        let server = Server::start(vec![script(move |mut peer| {
            serve_one(&mut peer);
            peer.request();
            close(peer);
        })]);
        let limits = Limits {
            round_trip: Duration::ZERO,
            ..limits()
        };
        let client = server.client_within(Api::OpenAiChat, limits);
        let first = client.exchange(body(), &mut ()).await;
        assert!(matches!(first.outcome, Outcome::Ok), "{first:?}");
        let second = client.exchange(body(), &mut ()).await;
        assert!(
            matches!(second.outcome, Outcome::StreamError(StreamError::Transport(_))),
            "{second:?}"
        );
        assert_eq!((second.reused, second.sent_again), (true, false), "{second:?}");
        server.finish();
    }
}

/// A server that closes a new connection without a response has failed.
#[tokio::test]
async fn a_request_is_sent_again_only_once() {
    let server = Server::start(vec![
        script(|mut peer| {
            serve_one(&mut peer);
            peer.request();
            peer.close();
        }),
        script(|mut peer| {
            peer.request();
            peer.close();
        }),
    ]);
    let client = server.client(Api::OpenAiChat);
    client.exchange(body(), &mut ()).await;
    let second = client.exchange(body(), &mut ()).await;
    assert!(matches!(second.outcome, Outcome::StreamError(_)), "{second:?}");
    server.finish();
}

#[tokio::test]
async fn without_keep_alive_every_request_has_its_connection() {
    let serve = || {
        script(|mut peer| {
            let (head, _) = peer.request();
            assert!(head.contains("connection: close\r\n"), "{head}");
            peer.stream_head();
            peer.chunk([&token("a"), FINISH, DONE].concat());
            peer.end_of_chunks();
            peer.until_closed();
        })
    };
    let server = Server::start(vec![serve(), serve()]);
    let limits = Limits {
        keep_alive: false,
        ..limits()
    };
    let client = server.client_within(Api::OpenAiChat, limits);
    for _ in 0..2 {
        let exchange = client.exchange(body(), &mut ()).await;
        assert!(
            matches!(exchange.outcome, Outcome::Ok) && !exchange.reused,
            "{exchange:?}"
        );
        assert_eq!(client.open_connections(), 0);
    }
    server.finish();
}

#[tokio::test]
async fn a_server_that_announces_a_close_is_believed() {
    let serve = || {
        script(|mut peer| {
            peer.request();
            peer.answer(
                "200 OK",
                "connection: close\r\n",
                r#"{"choices":[{"text":"a","finish_reason":"stop"}]}"#,
            );
            peer.until_closed();
        })
    };
    let server = Server::start(vec![serve(), serve()]);
    let client = server.client(Api::OpenAiCompletions);
    for _ in 0..2 {
        let exchange = client.exchange(body(), &mut ()).await;
        assert!(
            matches!(exchange.outcome, Outcome::Ok) && !exchange.reused,
            "{exchange:?}"
        );
    }
    server.finish();
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let server = Server::start(vec![script(|mut peer| {
        peer.request();
        peer.stream_head();
        peer.chunk(token("a"));
        began.send(()).unwrap();
        peer.until_closed();
    })]);
    let client = server.client(Api::OpenAiChat);
    let mut nobody = ();
    tokio::select! {
        biased;
        exchange = client.exchange(body(), &mut nobody) => panic!("{exchange:?}"),
        begun = has_begun => begun.unwrap(),
    }
    assert_eq!(client.open_connections(), 0);
    server.finish();
}

#[tokio::test]
async fn concurrent_requests_have_a_connection_each() {
    let server = Server::start((0..8).map(|_| script(|mut peer| serve_one(&mut peer))).collect());
    let client = server.client(Api::OpenAiChat);
    let tasks = tokio::task::LocalSet::new();
    let requests: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tasks.spawn_local(async move { client.exchange(body(), &mut ()).await })
        })
        .collect();
    tasks
        .run_until(async {
            for request in requests {
                let exchange = request.await.unwrap();
                assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
            }
        })
        .await;
    server.finish();
}

#[tokio::test]
async fn a_host_is_reached_by_the_address_that_listens() {
    // `localhost` also resolves to ::1 on most machines; the server listens on 127.0.0.1 only.
    let server = Server::start(vec![script(|mut peer| serve_one(&mut peer))]);
    let base = format!("http://localhost:{}/v1/", server.address.port());
    let endpoint = Endpoint::new(Api::OpenAiChat, &base, None).unwrap();
    let exchange = Client::new(endpoint, limits()).exchange(body(), &mut ()).await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    server.finish();
}

#[tokio::test]
async fn a_request_has_the_form_of_the_api() {
    let server = Server::start(vec![script(|mut peer| {
        let (head, sent) = peer.request();
        assert!(
            head.starts_with("post /openai/v1/chat/completions?api-version=1 http/1.1\r\n"),
            "{head}"
        );
        for header in [
            "authorization: bearer sk-1\r\n",
            "content-type: application/json\r\n",
            "x-team: a\r\n",
            "host: 127.0.0.1:",
        ] {
            assert!(head.contains(header), "{header} in {head}");
        }
        assert_eq!(sent.as_bytes(), &body()[..]);
        peer.answer("200 OK", "", r#"{"choices":[]}"#);
    })]);
    let base = format!("http://{}/openai/v1/?api-version=1", server.address);
    let endpoint = Endpoint::new(Api::OpenAiChat, &base, Some(Secret::new("sk-1".to_owned())))
        .unwrap()
        .with_header("X-Team", &Secret::new("a".to_owned()))
        .unwrap();
    let exchange = Client::new(endpoint, limits()).exchange(body(), &mut ()).await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert!(exchange.connected.unwrap() <= exchange.sent.unwrap());
    server.finish();
}

#[tokio::test]
async fn connecting_ends_after_the_timeout() {
    // A full backlog leaves further connections without a response.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&address.into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(address).unwrap();
    let limits = Limits {
        connect_timeout: Duration::from_millis(100),
        ..limits()
    };
    let endpoint = Endpoint::new(Api::OpenAiChat, &format!("http://{address}/v1"), None).unwrap();
    let exchange = Client::new(endpoint, limits).exchange(body(), &mut ()).await;
    assert!(
        matches!(
            exchange.outcome,
            Outcome::StreamError(StreamError::ConnectTimeout { .. })
        ),
        "{exchange:?}"
    );
}

/// A server may respond while it reads. A request larger than the sockets' buffers is still sent completely.
#[tokio::test]
async fn a_long_request_is_sent_completely_after_an_early_response() {
    const LENGTH: usize = 32 << 20;
    let server = Server::start(vec![script(|mut peer| {
        peer.stream_head();
        let (_, sent) = peer.request();
        assert_eq!(sent.len(), LENGTH);
        peer.chunk([&token("a"), FINISH, DONE].concat());
        peer.end_of_chunks();
    })]);
    let long = bytes::Bytes::from(vec![b' '; LENGTH]);
    let exchange = server.client(Api::OpenAiChat).exchange(long, &mut ()).await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    server.finish();
}

#[tokio::test]
async fn a_request_that_was_sent_twice_reports_it() {
    let server = Server::start(vec![
        script(|mut peer| {
            serve_one(&mut peer);
            peer.request();
            peer.close();
        }),
        script(|mut peer| serve_one(&mut peer)),
    ]);
    let client = server.client(Api::OpenAiChat);
    assert!(!client.exchange(body(), &mut ()).await.sent_again);
    assert!(client.exchange(body(), &mut ()).await.sent_again);
    server.finish();
}
