use std::{collections::HashSet, time::Duration};

use mock_llm::{ApiKey, ErrorRates, MockLlm, Settings, Stall};
use serde_json::{Value, json};
use test_patience::until_blocking;

use crate::{
    client::{Client, ask, request},
    streams::{APIS, at_once, deltas, start, timestamps},
};

const CHAT: &str = APIS[0];

#[test]
fn requests_may_arrive_in_any_pieces_or_together() {
    let server = start(at_once());
    let mut client = Client::of(&server);
    client.socket.set_nodelay(true).unwrap();
    let body = ask("m", true, 2).to_string();
    for byte in request("POST", CHAT, &body) {
        client.send(&[byte]);
    }
    assert_eq!(deltas(&client.answer()).len(), 2);

    let (one, half) = (request("POST", CHAT, &body), body.len() / 2);
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &body[..half],
        body.len() - half,
        &body[half..]
    );
    client.send(
        &[
            one.as_slice(),
            chunked.as_bytes(),
            &request("GET", "/healthz", ""),
        ]
        .concat(),
    );
    for _ in 0..2 {
        assert_eq!(deltas(&client.answer()).len(), 2);
    }
    assert_eq!(client.answer().json(), json!({"status": "ok"}));
}

#[test]
fn a_client_that_expects_it_is_told_to_send_its_body() {
    let server = start(at_once());
    let mut client = Client::of(&server);
    let body = ask("m", false, 2).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head.as_bytes());
    client.read_at_least(25);
    assert_eq!(client.take(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body.as_bytes());
    assert_eq!(client.answer().status, 200);
}

#[test]
fn large_bodies_are_read_up_to_the_limit() {
    let server = start(at_once());
    let mut client = Client::of(&server);
    let words = "word ".repeat(1_000_000);
    let body = json!({"messages": [{"role": "user", "content": words}], "max_tokens": 1});
    let usage = client.ask(CHAT, &body).json()["usage"]["prompt_tokens"].clone();
    assert_eq!(usage, 1_000_000);
    client.send(b"POST /v1/completions HTTP/1.1\r\ncontent-length: 100000000\r\n\r\n");
    let refused = client.answer();
    assert_eq!(refused.status, 413);
    assert!(refused.head.contains("connection: close"));
    assert!(
        refused.text().contains("longer than 16777216 bytes"),
        "{}",
        refused.text()
    );
}

#[test]
fn errors_have_the_form_of_the_api() {
    let server = start(Settings {
        models: vec!["small".to_owned()],
        ..at_once()
    });
    let mut client = Client::of(&server);
    let unknown = client.get("/v2/chat");
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text().contains("expected /v1/chat/completions"),
        "{}",
        unknown.text()
    );
    let wrong_method = client.get(CHAT);
    assert_eq!(wrong_method.status, 405);
    assert!(wrong_method.head.contains("allow: POST\r\n"));
    for path in APIS {
        let answer = client.ask(path, &json!({"model": "small"}));
        assert_eq!(answer.status, 400);
        let answer = client.ask(path, &ask("large", true, 1));
        assert_eq!(answer.status, 404);
        let body = answer.json();
        assert_eq!(
            body["error"]["message"],
            r#"model: found "large", expected one of small"#
        );
        assert_eq!(body["type"] == "error", path == "/v1/messages");
    }
    assert_eq!(client.get("/v1/models").json()["data"][0]["id"], "small");
}

#[test]
fn the_key_is_accepted_in_either_header() {
    let server = start(Settings {
        api_key: Some(ApiKey::from("sesame")),
        ..at_once()
    });
    let mut client = Client::of(&server);
    let body = ask("m", true, 1).to_string();
    for (header, status) in [
        ("authorization: Bearer sesame", 200),
        ("x-api-key: sesame", 200),
        ("x-api-key: open", 401),
        ("accept: */*", 401),
    ] {
        for path in APIS {
            let head = format!(
                "POST {path} HTTP/1.1\r\n{header}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            client.send([head.as_bytes(), body.as_bytes()].concat().as_slice());
            assert_eq!(client.answer().status, status, "{header}");
        }
    }
}

#[test]
fn usage_is_stated_where_it_is_asked_for_and_enabled() {
    let has_usage = |server: &MockLlm, path: &str, body: &Value| {
        let answer = Client::of(server).ask(path, body);
        answer.objects().iter().any(|event| event.get("usage").is_some())
    };
    let (with, without) = (
        start(at_once()),
        start(Settings {
            usage: false,
            ..at_once()
        }),
    );
    for path in APIS {
        let asked = ask("m", true, 1);
        assert!(has_usage(&with, path, &asked));
        assert!(!has_usage(&without, path, &asked));
        let mut unasked = asked.clone();
        unasked["stream_options"] = Value::Null;
        assert_eq!(has_usage(&with, path, &unasked), path == "/v1/messages");
        // The timestamps do not depend on the usage.
        timestamps(&Client::of(&without).ask(path, &unasked));
    }
}

#[test]
fn the_correctness_tests_question_is_answered() {
    let question = json!({"max_tokens": 8, "messages": [{"role": "user", "content": "Convert the following sequence of words \
        into a number: nine thousand, four hundred and twelve.\nPrint the number first."}]});
    for (wrong_numbers, expected) in [(0.0, "9412 "), (1.0, "9413 ")] {
        let server = start(Settings {
            wrong_numbers,
            ..at_once()
        });
        let answer = Client::of(&server).ask(CHAT, &question).json();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(text.split_whitespace().count(), 8);
    }
}

#[test]
fn errors_are_injected_by_seed_and_number() {
    let outcomes = |seed| -> Vec<(u16, bool)> {
        let errors = ErrorRates {
            too_many_requests: 0.25,
            internal: 0.25,
            in_stream: 0.25,
        };
        let server = start(Settings {
            errors,
            seed,
            ..at_once()
        });
        let mut client = Client::of(&server);
        let answers = (0..40).map(|_| client.ask(CHAT, &ask("m", true, 2)));
        answers
            .map(|answer| (answer.status, answer.text().contains("[DONE]")))
            .collect()
    };
    let first = outcomes(1);
    assert_eq!(first, outcomes(1));
    assert_ne!(first, outcomes(2));
    let kinds: HashSet<_> = first.into_iter().collect();
    assert_eq!(
        kinds,
        HashSet::from([(429, false), (500, false), (200, false), (200, true)])
    );
}

#[test]
fn tokens_of_a_chunk_are_due_with_the_first_of_them() {
    let itl = Duration::from_millis(1);
    let server = start(Settings {
        itl,
        tokens_per_chunk: 4,
        ..at_once()
    });
    let answer = Client::of(&server).ask(CHAT, &ask("m", true, 10));
    let words: Vec<_> = deltas(&answer)
        .iter()
        .map(|delta| delta.split_whitespace().count())
        .collect();
    assert_eq!(words, [4, 4, 2]);
    let timestamps = timestamps(&answer);
    let between = timestamps["last_token_due_ns"].as_u64().unwrap()
        - timestamps["first_token_due_ns"].as_u64().unwrap();
    assert_eq!(Duration::from_nanos(between), 8 * itl);
}

#[test]
fn requests_wait_for_a_slot_and_a_closed_connection_frees_its_own() {
    let server = start(Settings {
        ttft: Duration::from_secs(3600),
        slots: Some(1),
        ..Settings::default()
    });
    let ask = request("POST", CHAT, &ask("m", true, 1).to_string());
    let (mut first, mut second) = (Client::of(&server), Client::of(&server));
    first.send(&ask);
    // The head is sent as soon as the response has a slot.
    first.read_at_least(1);
    second.send(&ask);
    // The same core responds to it after it has read the second request.
    let mut look = Client::of(&server);
    until_blocking("a request that waits", || {
        look.get("/stats").json()["queued"] == 1
    });
    drop(first);
    second.read_at_least(1);
    let stats = server.stats();
    assert_eq!((stats.queued, stats.in_flight), (0, 1));
}

#[test]
fn a_stall_does_not_count_as_lateness() {
    let stall = Stall {
        every: Duration::from_millis(60),
        lasts: Duration::from_millis(40),
    };
    let itl = Duration::from_millis(5);
    let server = start(Settings {
        itl,
        stall: Some(stall),
        ..at_once()
    });
    let mut client = Client::of(&server);
    let answer = client.ask(CHAT, &ask("m", true, 40));
    assert_eq!(deltas(&answer).len(), 40);
    let stats = client.get("/stats").json();
    // 200 ms of tokens overlap with at least two stalls of 40 ms, each of which delays at least seven tokens.
    assert!(stats["stalled_tokens"].as_u64() >= Some(14), "{stats}");
    assert_eq!(stats["token_lateness"]["count"], 40);
}

#[test]
fn connections_are_distributed_to_all_cores() {
    let server = start(Settings {
        cores: 3,
        ..at_once()
    });
    let mut clients: Vec<_> = (0..7).map(|_| Client::of(&server)).collect();
    for client in &mut clients {
        assert_eq!(deltas(&client.ask(CHAT, &ask("m", true, 3))).len(), 3);
    }
    let stats = server.stats();
    assert_eq!((stats.requests, stats.tokens, stats.connections), (7, 21, 7));
}

#[test]
fn a_client_that_does_not_read_delays_no_other() {
    let server = start(Settings {
        output_tokens: 1_000_000,
        ..at_once()
    });
    let (mut lazy, mut other) = (Client::of(&server), Client::of(&server));
    lazy.send(&request("POST", CHAT, &ask("m", true, 100_000).to_string()));
    until_blocking("a write that waits", || {
        other.get("/stats").json()["blocked_writes"] != 0
    });
    assert_eq!(deltas(&other.ask(CHAT, &ask("m", true, 3))).len(), 3);
    let answer = lazy.answer();
    assert!(answer.is_complete);
    assert_eq!(answer.text().matches(r#""content":" "#).count(), 99_999);
}

#[tokio::test]
async fn it_starts_and_stops_inside_a_runtime() {
    let server = MockLlm::start(Settings::default()).unwrap();
    assert_eq!(server.base_url(), format!("http://{}/v1", server.addr()));
    let address = server.addr();
    drop(server);
    // Another process may use the port for a short time.
    until_blocking("nobody behind the port", || {
        std::net::TcpStream::connect(address).is_err()
    });
    let taken = MockLlm::start(Settings::default()).unwrap();
    let again = Settings {
        address: taken.addr(),
        ..Settings::default()
    };
    assert_eq!(
        MockLlm::start(again).unwrap_err().kind(),
        std::io::ErrorKind::AddrInUse
    );
}
