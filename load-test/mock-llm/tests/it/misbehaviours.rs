use std::{thread, time::Duration};

use mock_llm::{Misbehaviour, MockLlm};
use serde_json::{Value, json};
use test_patience::until_blocking;

use crate::{
    client::{Answer, Client, ask, request},
    streams::{APIS, at_once, deltas, start, timestamps},
};

const CHAT: &str = APIS[0];
const MESSAGES: &str = APIS[2];

fn misbehaving(server: &MockLlm, path: &str, misbehaviour: Misbehaviour, tokens: u32) -> (Client, Answer) {
    let mut client = Client::of(server);
    let answer = client.ask(path, &ask(&format!("misbehave:{misbehaviour}"), true, tokens));
    (client, answer)
}

/// Whether the response has the API's own end.
fn has_end(answer: &Answer) -> bool {
    let text = answer.text();
    text.contains("[DONE]") || text.contains("message_stop")
}

/// These responses have an unusual form but the usual content; the connection can be used again.
#[test]
fn unusual_forms_have_the_usual_content() {
    let server = start(at_once());
    thread::scope(|scope| {
        for path in APIS {
            scope.spawn(|| say_everything(&server, path));
        }
    });
}

fn say_everything(server: &MockLlm, path: &str) {
    for misbehaviour in [
        Misbehaviour::SplitUtf8,
        Misbehaviour::CrlfLines,
        Misbehaviour::DataWithoutSpace,
        Misbehaviour::Comments,
        Misbehaviour::ManyEventsPerWrite,
        Misbehaviour::ByteByByte,
        Misbehaviour::MissingDone,
        Misbehaviour::EmptyChoices,
        Misbehaviour::SlowDrip,
    ] {
        let tokens = if misbehaviour == Misbehaviour::SlowDrip {
            1
        } else {
            5
        };
        let (mut client, answer) = misbehaving(server, path, misbehaviour, tokens);
        let said = deltas(&answer);
        assert_eq!(
            said.len(),
            tokens as usize,
            "{misbehaviour} {path}: {}",
            answer.text()
        );
        assert!(answer.is_complete, "{misbehaviour} {path}");
        assert_eq!(has_end(&answer), misbehaviour != Misbehaviour::MissingDone);
        assert!(timestamps(&answer)["last_token_written_ns"].as_u64() > Some(0));
        assert_eq!(client.get("/healthz").status, 200);
        assert_look(misbehaviour, &answer);
    }
}

fn assert_look(misbehaviour: Misbehaviour, answer: &Answer) {
    let text = answer.text();
    let is_so = match misbehaviour {
        Misbehaviour::SplitUtf8 => !text.is_ascii() && answer.chunks > text.matches("\n\n").count(),
        Misbehaviour::CrlfLines => text.matches('\n').count() == text.matches("\r\n").count(),
        Misbehaviour::DataWithoutSpace => !text.contains("data: "),
        Misbehaviour::Comments => text.contains(": heartbeat\n\n") && text.contains("retry: 1000"),
        Misbehaviour::ManyEventsPerWrite => answer.chunks == 1,
        Misbehaviour::ByteByByte => answer.chunks == answer.body.len(),
        Misbehaviour::EmptyChoices => text.contains(r#""choices":[]}"#) || text.matches("ping").count() > 2,
        _ => true,
    };
    assert!(is_so, "{misbehaviour}: {} chunks\n{text}", answer.chunks);
}

#[test]
fn reasoning_comes_before_the_content() {
    let server = start(at_once());
    for (misbehaviour, field) in [
        (Misbehaviour::ReasoningContent, "reasoning_content"),
        (Misbehaviour::Reasoning, "reasoning"),
    ] {
        let (_, answer) = misbehaving(&server, CHAT, misbehaviour, 5);
        let objects = answer.objects();
        let thoughts = objects
            .iter()
            .filter(|event| event["choices"][0]["delta"][field].is_string());
        assert_eq!(
            (thoughts.count(), deltas(&answer).len()),
            (3, 2),
            "{}",
            answer.text()
        );
        let (_, answer) = misbehaving(&server, MESSAGES, misbehaviour, 5);
        let blocks: Vec<_> = answer
            .objects()
            .into_iter()
            .filter(|event| event["type"] == "content_block_start")
            .collect();
        let kinds: Vec<_> = blocks
            .iter()
            .map(|block| (&block["index"], &block["content_block"]["type"]))
            .collect();
        assert_eq!(
            kinds,
            [(&json!(0), &json!("thinking")), (&json!(1), &json!("text"))]
        );
        assert_eq!(deltas(&answer).len(), 2);
    }
}

#[test]
fn a_tool_call_has_arguments_in_json() {
    let server = start(at_once());
    let (_, answer) = misbehaving(&server, CHAT, Misbehaviour::ToolCalls, 4);
    let objects = answer.objects();
    let arguments = |event: &Value| {
        event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
            .as_str()
            .map(str::to_owned)
    };
    let arguments: String = objects.iter().filter_map(arguments).collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments["query"].as_str().unwrap().split_whitespace().count(), 4);
    assert!(answer.text().contains(r#""finish_reason":"tool_calls""#));
    let (_, answer) = misbehaving(&server, MESSAGES, Misbehaviour::ToolCalls, 4);
    let partial: String = answer
        .objects()
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str().map(str::to_owned))
        .collect();
    assert!(serde_json::from_str::<Value>(&partial).unwrap()["query"].is_string());
    assert!(answer.text().contains(r#""stop_reason":"tool_use""#));
}

#[test]
fn the_first_content_may_come_long_after_the_role() {
    let server = start(at_once());
    let (_, answer) = misbehaving(&server, CHAT, Misbehaviour::RoleThenPause, 2);
    let timestamps = timestamps(&answer);
    let pause =
        timestamps["first_token_due_ns"].as_u64().unwrap() - timestamps["received_ns"].as_u64().unwrap();
    assert_eq!(Duration::from_nanos(pause), Duration::from_millis(500));
}

#[test]
fn streams_that_fail_or_end_halfway() {
    let server = start(at_once());
    for path in APIS {
        let (_, answer) = misbehaving(&server, path, Misbehaviour::InStreamError, 4);
        assert_eq!(
            (answer.is_complete, has_end(&answer), deltas(&answer).len()),
            (true, false, 2)
        );
        let last = answer.objects().pop().unwrap();
        assert!(last["error"]["message"].is_string(), "{last}");

        let (_, answer) = misbehaving(&server, path, Misbehaviour::CleanEndWithoutFinish, 4);
        assert_eq!(
            (answer.is_complete, has_end(&answer), deltas(&answer).len()),
            (true, false, 2)
        );
        assert!(
            !answer.text().contains("stop_reason\":\"m") && !answer.text().contains("finish_reason\":\"l")
        );
    }
}

#[test]
fn responses_that_are_no_streams() {
    let server = start(at_once());
    for path in APIS {
        let (_, answer) = misbehaving(&server, path, Misbehaviour::ErrorBody200, 4);
        assert_eq!((answer.status, answer.json()["error"].is_object()), (200, true));
        let (_, answer) = misbehaving(&server, path, Misbehaviour::RateLimited, 4);
        assert_eq!(answer.status, 429);
        assert!(answer.head.contains("retry-after: 1\r\n"));
        let (_, answer) = misbehaving(&server, path, Misbehaviour::Redirect, 4);
        let port = server.addr().port().wrapping_add(1);
        assert_eq!(answer.status, 302);
        assert!(
            port == 0
                || answer
                    .head
                    .contains(&format!("location: http://127.0.0.1:{port}/")),
            "{}",
            answer.head
        );
    }
}

#[test]
fn connections_that_are_reset() {
    let server = start(at_once());
    for is_stream in [true, false] {
        for (misbehaviour, expected) in [
            (Misbehaviour::ResetBeforeHead, ""),
            (Misbehaviour::ResetAfterHead, "\r\n\r\n"),
            (Misbehaviour::ResetInChunk, "{\"id\""),
        ] {
            let mut client = Client::of(&server);
            let body = ask(&format!("misbehave:{misbehaviour}"), is_stream, 4).to_string();
            client.send(&request("POST", CHAT, &body));
            let (came, is_reset) = client.until_the_end();
            assert!(is_reset, "{misbehaviour}: an orderly end after {came:?}");
            let is_so = if is_stream {
                came.ends_with(expected)
            } else {
                came.contains(expected)
            };
            assert!(is_so, "{misbehaviour}: {came:?}");
            assert_eq!(came.is_empty(), misbehaviour == Misbehaviour::ResetBeforeHead);
        }
    }
}

#[test]
fn a_line_of_100_mb() {
    let server = start(at_once());
    let (_, answer) = misbehaving(&server, CHAT, Misbehaviour::HugeLine, 1);
    assert!(answer.is_complete);
    let longest = answer.body.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
    assert!(longest > Some(100_000_000), "{longest:?}");
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
}

/// Neither response ends by itself. When the client closes the connection, its slot becomes free.
#[test]
fn endless_and_silent_responses_end_with_the_client() {
    let mut settings = at_once();
    settings.slots = Some(1);
    let server = start(settings);
    for misbehaviour in [Misbehaviour::NeverEnding, Misbehaviour::NoHead] {
        let mut client = Client::of(&server);
        let body = ask(&format!("misbehave:{misbehaviour}"), true, 1).to_string();
        let before = server.stats().requests;
        client.send(&request("POST", CHAT, &body));
        until_blocking("the request has the slot", || server.stats().requests > before);
        if misbehaviour == Misbehaviour::NeverEnding {
            client.read_at_least(1_000_000);
        }
        let mut next = Client::of(&server);
        next.send(&request("POST", CHAT, &ask("m", true, 1).to_string()));
        drop(client);
        assert!(has_end(&next.answer()), "{misbehaviour}");
    }
    assert_eq!(server.shutdown().unwrap().disconnects, 2);
}

#[test]
fn the_header_comes_first_then_the_model_then_the_setting() {
    let mut settings = at_once();
    settings.misbehaviour = Some(Misbehaviour::RateLimited);
    let server = start(settings);
    let mut client = Client::of(&server);
    assert_eq!(client.ask(CHAT, &ask("m", true, 1)).status, 429);
    assert_eq!(
        client.ask(CHAT, &ask("misbehave:error-body-200", true, 1)).status,
        200
    );
    let body = ask("misbehave:error-body-200", true, 1).to_string();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nx-mock-misbehaviour: redirect\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(request.as_bytes());
    assert_eq!(client.answer().status, 302);
    let unknown = client.ask(CHAT, &ask("misbehave:politely", true, 1));
    assert_eq!(unknown.status, 400);
    assert!(
        unknown.text().contains("expected one of split-utf8, "),
        "{}",
        unknown.text()
    );
}
