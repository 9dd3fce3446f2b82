use std::time::Duration;

use mock_llm::{MockLlm, Settings};
use serde_json::Value;

use crate::client::{Answer, Client, ask};

pub(crate) const APIS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/messages"];

pub(crate) fn start(settings: Settings) -> MockLlm {
    MockLlm::start(settings).unwrap()
}

/// Settings without delays.
pub(crate) fn at_once() -> Settings {
    Settings {
        ttft: Duration::ZERO,
        itl: Duration::ZERO,
        ..Settings::default()
    }
}

/// The content deltas of a stream of any API.
pub(crate) fn deltas(answer: &Answer) -> Vec<String> {
    let text = |event: &Value| -> Option<String> {
        let choice = &event["choices"][0];
        let found = [
            &choice["delta"]["content"],
            &choice["text"],
            &event["delta"]["text"],
        ];
        let text = found.iter().find_map(|value| value.as_str())?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    answer.objects().iter().filter_map(text).collect()
}

/// The server's timestamps, which one event states.
pub(crate) fn timestamps(answer: &Answer) -> Value {
    let objects = answer.objects();
    let mut timestamps = objects.iter().filter_map(|event| event.get("mock_llm"));
    let found = timestamps.next().expect("one event has the timestamps").clone();
    assert_eq!(timestamps.next(), None);
    found
}

fn assert_times(timestamps: &Value, ttft: Duration, until_last: Duration) {
    let at = |name: &str| timestamps[name].as_u64().unwrap();
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap();
    assert_eq!(at("first_token_due_ns"), at("received_ns") + nanos(ttft));
    assert_eq!(
        at("last_token_due_ns"),
        at("first_token_due_ns") + nanos(until_last)
    );
    assert!(
        at("first_token_written_ns") >= at("first_token_due_ns"),
        "{timestamps}"
    );
    assert!(
        at("last_token_written_ns") >= at("last_token_due_ns"),
        "{timestamps}"
    );
}

#[test]
fn every_token_is_a_chunk_and_never_early() {
    let (ttft, itl) = (Duration::from_millis(20), Duration::from_millis(3));
    let server = start(Settings {
        ttft,
        itl,
        ..Settings::default()
    });
    let mut client = Client::of(&server);
    for path in APIS {
        let answer = client.ask(path, &ask("m", true, 5));
        assert_eq!((answer.status, answer.is_complete), (200, true));
        assert_eq!(
            answer.chunks,
            answer.text().matches("\n\n").count(),
            "an event a chunk"
        );
        let deltas = deltas(&answer);
        assert_eq!(deltas.len(), 5, "{}", answer.text());
        assert_eq!(deltas.concat().split_whitespace().count(), 5);
        assert_times(&timestamps(&answer), ttft, 4 * itl);
    }
    let stats = server.shutdown().unwrap();
    assert_eq!((stats.requests, stats.tokens, stats.in_flight), (3, 15, 0));
    assert_eq!(
        (stats.first_token_lateness.count, stats.token_lateness.count),
        (3, 15)
    );
}

#[test]
fn a_response_that_is_not_streamed_has_the_same_content() {
    let server = start(at_once());
    let mut client = Client::of(&server);
    for path in APIS {
        let whole = client.ask(path, &ask("m", false, 6));
        let body = whole.json();
        let choice = &body["choices"][0];
        let text = [
            &choice["message"]["content"],
            &choice["text"],
            &body["content"][0]["text"],
        ];
        let text = text.iter().find_map(|value| value.as_str()).unwrap();
        assert_eq!(text.split_whitespace().count(), 6);
        let usage = &body["usage"];
        let tokens = usage["completion_tokens"]
            .as_u64()
            .or(usage["output_tokens"].as_u64());
        assert_eq!(tokens, Some(6));
        assert_times(&body["mock_llm"], Duration::ZERO, Duration::ZERO);
    }
}
