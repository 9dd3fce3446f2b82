//! Every kind of failure has its outcome.

use std::time::Duration;

use llm_client::{Api, Client, ContentKind, Endpoint, Exchange, Limits, Observer, Outcome, StreamError};
use precise_time::MonotonicTime;
use test_patience::soon;
use tokio::sync::oneshot;

use crate::server::{
    DONE, FINISH, Peer, Server, assert_ordered, body, exchanged, exchanged_within, limits, script, token,
};

#[tokio::test]
async fn a_refusal_has_a_status_a_message_and_a_delay() {
    let (exchange, _) = exchanged(Api::OpenAiChat, |peer| {
        let error = r#"{"error":{"message":"slow\ndown","type":"rate_limit"}}"#;
        peer.answer("429 Too Many Requests", "retry-after: 7\r\n", error);
    })
    .await;
    let Outcome::HttpError {
        status,
        retry_after,
        message,
    } = &exchange.outcome
    else {
        panic!("{exchange:?}")
    };
    assert_eq!(
        (*status, *retry_after, &**message),
        (429, Some(Duration::from_secs(7)), "slow down")
    );
    assert!(exchange.closed.is_some() && exchange.first_content.is_none());
    assert_ordered(&exchange);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (exchange, _) = exchanged(Api::OpenAiChat, |peer| {
        peer.answer("307 Temporary Redirect", "location: http://127.0.0.1:9/\r\n", "");
    })
    .await;
    assert!(
        matches!(exchange.outcome, Outcome::HttpError { status: 307, .. }),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn an_endless_refusal_is_read_in_part() {
    let (exchange, _) = exchanged(Api::OpenAiChat, |peer| {
        peer.write("HTTP/1.1 500 Oops\r\ncontent-length: 9999999999\r\n\r\n");
        while std::io::Write::write_all(&mut peer.0, &[b'x'; 4096]).is_ok() {}
    })
    .await;
    let Outcome::HttpError { message, .. } = &exchange.outcome else {
        panic!("{exchange:?}")
    };
    assert_eq!(message.len(), 500);
    assert_eq!(exchange.closed, None);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_end_of_its_message() {
    let limits = Limits {
        refusal_timeout: Duration::from_millis(50),
        ..limits()
    };
    let (exchange, _) = exchanged_within(Api::OpenAiChat, limits, |peer| {
        peer.write("HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nlater");
        peer.until_closed();
    })
    .await;
    let Outcome::HttpError { status, message, .. } = &exchange.outcome else {
        panic!("{exchange:?}")
    };
    assert_eq!((*status, &**message), (503, "later"));
    assert_eq!(exchange.closed, None);
}

/// A server that refuses a long request need not read it.
#[tokio::test]
async fn a_refusal_before_the_end_of_the_request_is_read() {
    let server = Server::start(vec![script(|mut peer| {
        peer.answer("413 Too Large", "connection: close\r\n", "too long");
        peer.until_closed();
    })]);
    let long = bytes::Bytes::from(vec![b' '; 64 << 20]);
    let exchange = server.client(Api::OpenAiChat).exchange(long, &mut ()).await;
    let Outcome::HttpError { status, message, .. } = &exchange.outcome else {
        panic!("{exchange:?}")
    };
    assert_eq!((*status, &**message), (413, "too long"));
    server.finish();
}

#[tokio::test]
async fn errors_within_a_stream_have_the_servers_message() {
    let errors = [
        (
            Api::OpenAiChat,
            "data: {\"error\":{\"message\":\"lost\",\"code\":500}}\n\n",
        ),
        (
            Api::OpenAiChat,
            "data: {\"error\":\"lost\",\"error_type\":\"generation\"}\n\n",
        ),
        (
            Api::OpenAiChat,
            "data: {\"object\":\"error\",\"message\":\"lost\"}\n\n",
        ),
        (Api::OpenAiChat, "event: error\ndata: {\"message\":\"lost\"}\n\n"),
        (
            Api::AnthropicMessages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"lost\"}}\n\n",
        ),
        (
            Api::AnthropicMessages,
            "data: {\"type\":\"error\",\"error\":{\"message\":\"lost\"}}\n\n",
        ),
    ];
    for (api, error) in errors {
        let (exchange, _) = exchanged(api, move |peer| {
            peer.stream_head();
            peer.chunk(": wait\n\n");
            peer.chunk(error);
            peer.until_closed();
        })
        .await;
        let Outcome::StreamError(StreamError::Reported { message }) = &exchange.outcome else {
            panic!("{error}: {exchange:?}")
        };
        assert_eq!(&**message, "lost");
    }
}

#[tokio::test]
async fn an_error_with_status_200_is_an_error() {
    for body in [
        r#"{"error":{"message":"no"}}"#,
        r#"{"object":"error","message":"no"}"#,
    ] {
        let (exchange, _) = exchanged(Api::OpenAiChat, move |peer| {
            peer.answer("200 OK", "content-type: text/event-stream\r\n", body);
        })
        .await;
        let Outcome::StreamError(StreamError::Reported { message }) = &exchange.outcome else {
            panic!("{exchange:?}")
        };
        assert_eq!(&**message, "no");
    }
}

#[tokio::test]
async fn other_bodies_are_malformed() {
    for body in [
        "{\"hello\":1}",
        "<html>sign in</html>",
        "[1,2]",
        "{\"choices\":7}",
    ] {
        let (exchange, _) = exchanged(Api::OpenAiChat, move |peer| peer.answer("200 OK", "", body)).await;
        let Outcome::StreamError(StreamError::Malformed { excerpt, .. }) = &exchange.outcome else {
            panic!("{exchange:?}")
        };
        assert_eq!(&**excerpt, body);
    }
    for event in [
        "data: {\"choices\":[\n\n",
        "data: what\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\u{1}\"}}]}\n\n",
    ] {
        let (exchange, observed) = exchanged(Api::OpenAiChat, move |peer| {
            peer.stream_head();
            peer.chunk(token("a"));
            peer.chunk(event);
            peer.until_closed();
        })
        .await;
        assert!(
            matches!(
                exchange.outcome,
                Outcome::StreamError(StreamError::Malformed { .. })
            ),
            "{exchange:?}"
        );
        assert_eq!(observed.answer(), "a");
    }
}

#[tokio::test]
async fn a_response_without_an_end_is_truncated() {
    let events = [
        token("a"),
        String::new(),
        ": nothing\n\n".to_owned(),
        token("a") + "data: {\"choices\":[{\"del",
    ];
    for events in events {
        let (exchange, _) = exchanged(Api::OpenAiChat, move |peer| {
            peer.stream_head();
            if !events.is_empty() {
                peer.chunk(events);
            }
            peer.end_of_chunks();
        })
        .await;
        assert!(matches!(exchange.outcome, Outcome::Truncated), "{exchange:?}");
        assert!(exchange.closed.is_some());
    }
    let (exchange, _) = exchanged(Api::OpenAiChat, |peer| {
        peer.answer("200 OK", "", r#"{"choices":[{"message":{"content":"Hi"#);
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Truncated), "{exchange:?}");
}

#[tokio::test]
async fn a_broken_connection_is_a_stream_error() {
    let cut_within_a_chunk = |peer: &mut Peer| {
        peer.stream_head();
        peer.write("ff\r\ndata: {\"choi");
    };
    let cut_between_chunks = |peer: &mut Peer| {
        peer.stream_head();
        peer.chunk(token("a") + FINISH);
    };
    let short_of_its_length = |peer: &mut Peer| {
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":[");
    };
    let without_a_word = |_: &mut Peer| {};
    let not_http = |peer: &mut Peer| peer.write("SSH-2.0-OpenSSH_9.9\r\n");
    let scripts: [fn(&mut Peer); 5] = [
        cut_within_a_chunk,
        cut_between_chunks,
        short_of_its_length,
        without_a_word,
        not_http,
    ];
    for serve in scripts {
        let (exchange, _) = exchanged(Api::OpenAiChat, serve).await;
        assert!(
            matches!(exchange.outcome, Outcome::StreamError(StreamError::Transport(_))),
            "{exchange:?}"
        );
        assert!(exchange.sent.is_some() && exchange.closed.is_none());
    }
}

#[tokio::test]
async fn a_reset_is_a_stream_error_after_the_content_before_it() {
    let (told, heard_it) = std::sync::mpsc::channel();
    let server = Server::start(vec![script(move |mut peer| {
        peer.request();
        peer.stream_head();
        peer.chunk(token("a"));
        heard_it.recv().unwrap();
        peer.reset();
    })]);
    let mut observer = crate::timestamps::Telling(told);
    let exchange = server
        .client(Api::OpenAiChat)
        .exchange(body(), &mut observer)
        .await;
    server.finish();
    assert!(
        matches!(exchange.outcome, Outcome::StreamError(StreamError::Transport(_))),
        "{exchange:?}"
    );
    assert_eq!(exchange.content_chunks, 1);
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused() {
    let limits = Limits {
        max_line_bytes: 1000,
        ..limits()
    };
    let (exchange, observed) = exchanged_within(Api::OpenAiChat, limits, |peer| {
        peer.stream_head();
        peer.chunk(token("a"));
        peer.chunk(token(&"b".repeat(1000)));
        peer.until_closed();
    })
    .await;
    let Outcome::StreamError(error) = &exchange.outcome else {
        panic!("{exchange:?}")
    };
    assert_eq!(error.to_string(), "an event of more than 1000 bytes, the limit");
    assert_eq!(observed.answer(), "a");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let limits = Limits {
        max_body_bytes: 1000,
        ..limits()
    };
    let (exchange, _) = exchanged_within(Api::OpenAiChat, limits, |peer| {
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n");
        peer.write([b'{'; 1001]);
        peer.until_closed();
    })
    .await;
    assert!(
        matches!(
            exchange.outcome,
            Outcome::StreamError(StreamError::BodyTooLong { limit: 1000 })
        ),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let limits = Limits {
        max_head_bytes: 0,
        ..limits()
    };
    let (exchange, _) = exchanged_within(Api::OpenAiChat, limits, |peer| {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "y".repeat(9000));
        peer.write(head);
        peer.until_closed();
    })
    .await;
    assert!(
        matches!(exchange.outcome, Outcome::StreamError(StreamError::Transport(_))),
        "{exchange:?}"
    );
}

/// The exchange of a request whose timeout passes as soon as `is_over` is true.
async fn timed_out(
    serve: impl FnOnce(&mut Peer) + Send + 'static,
    observer: &mut impl Observer,
    is_over: oneshot::Receiver<()>,
) -> Exchange {
    let server = Server::start(vec![script(|mut peer| {
        peer.request();
        serve(&mut peer);
    })]);
    let client = server.client(Api::OpenAiChat);
    let time = async {
        soon("the moment", is_over).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(limits().request_timeout).await;
        tokio::time::resume();
    };
    let (exchange, ()) = tokio::join!(client.exchange(body(), observer), time);
    server.finish();
    exchange
}

/// Signals the first content.
struct FirstContent(Option<oneshot::Sender<()>>, u32);

impl Observer for FirstContent {
    fn content(&mut self, _at: MonotonicTime, _kind: ContentKind, _text: &str) {
        self.1 += 1;
        if let Some(first) = self.0.take() {
            first.send(()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_slow_request_times_out() {
    let (asked, is_asked) = oneshot::channel();
    let wait = |peer: &mut Peer| {
        asked.send(()).unwrap();
        peer.until_closed();
    };
    let silent = timed_out(wait, &mut (), is_asked).await;
    assert!(matches!(silent.outcome, Outcome::TimedOut), "{silent:?}");
    assert!(silent.sent.is_some() && silent.response_head.is_none());

    let (began, has_begun) = oneshot::channel();
    let talk = |peer: &mut Peer| {
        peer.stream_head();
        while std::io::Write::write_all(&mut peer.0, &crate::server::chunk(token("a"))).is_ok() {}
    };
    let mut observed = FirstContent(Some(began), 0);
    let endless = timed_out(talk, &mut observed, has_begun).await;
    assert!(
        matches!(endless.outcome, Outcome::TimedOut),
        "{:?}",
        endless.outcome
    );
    assert_eq!(endless.content_chunks, observed.1);
    assert!(endless.content_chunks > 0 && endless.closed.is_none());
}

#[tokio::test]
async fn without_a_server_there_is_no_connection() {
    // Nothing listens on port 1 (tcpmux), and no test may bind a privileged port.
    let endpoint = Endpoint::new(Api::OpenAiChat, "http://127.0.0.1:1/v1", None).unwrap();
    let client = Client::new(endpoint, limits());
    let exchange = client.exchange(body(), &mut ()).await;
    assert!(
        matches!(
            exchange.outcome,
            Outcome::StreamError(StreamError::Connect { .. })
        ),
        "{exchange:?}"
    );
    assert_eq!((exchange.sent, exchange.connected), (None, None));
    assert_eq!(client.open_connections(), 0);
}

#[tokio::test]
async fn an_unknown_name_is_not_resolved() {
    // A label of 64 characters is invalid, so the resolver refuses it without asking a name server.
    let nobody = format!("http://{}.invalid/v1", "n".repeat(64));
    let endpoint = Endpoint::new(Api::OpenAiChat, &nobody, None).unwrap();
    let exchange = Client::new(endpoint, limits()).exchange(body(), &mut ()).await;
    assert!(
        matches!(
            exchange.outcome,
            Outcome::StreamError(StreamError::Resolve { .. })
        ),
        "{exchange:?}"
    );
}

#[tokio::test]
async fn bytes_after_the_end_change_nothing() {
    let (exchange, observed) = exchanged(Api::OpenAiChat, |peer| {
        peer.stream_head();
        peer.chunk([&token("a"), FINISH, DONE].concat());
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(observed.answer(), "a");
}
