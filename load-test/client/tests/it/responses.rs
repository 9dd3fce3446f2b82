//! Complete responses of all APIs, and of servers with their own variations.

use std::time::Duration;

use llm_client::{Api, ContentKind, Exchange, FinishReason, Limits, Outcome, Usage};
use precise_time::MonotonicTime;

use crate::server::{
    DONE, FINISH, ObservedContent, Peer, assert_ordered, exchanged, exchanged_within, limits, token,
};

/// The exchange for a stream of these events, each in an HTTP chunk of its own.
async fn streamed(api: Api, events: &[&str]) -> (Exchange, ObservedContent) {
    let events: Vec<String> = events.iter().map(|event| (*event).to_owned()).collect();
    let (exchange, observed) = exchanged(api, move |peer| {
        peer.stream_head();
        for event in events {
            peer.chunk(event);
        }
        peer.end_of_chunks();
    })
    .await;
    assert_ordered(&exchange);
    (exchange, observed)
}

async fn whole(api: Api, body: &'static str) -> (Exchange, ObservedContent) {
    let (exchange, observed) = exchanged(api, move |peer| peer.answer("200 OK", "", body)).await;
    assert_ordered(&exchange);
    (exchange, observed)
}

fn usage(input: u64, output: u64, reasoning: Option<u64>) -> Option<Usage> {
    Some(Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        reasoning_tokens: reasoning,
    })
}

#[tokio::test]
async fn a_chat_as_openai_streams_it() {
    let (exchange, observed) = streamed(
        Api::OpenAiChat,
        &[
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
            &token("Hel"),
            &token("lo,"),
            &token(" \"wörld\"\n"),
            &token(""),
            FINISH,
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\
             \"completion_tokens_details\":{\"reasoning_tokens\":0}},\"mock_llm\":{\"received_ns\":1,\
             \"first_token_due_ns\":2,\"first_token_written_ns\":3,\"last_token_due_ns\":4,\
             \"last_token_written_ns\":5}}\n\n",
            DONE,
        ],
    )
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(observed.answer(), "Hello, \"wörld\"\n");
    assert_eq!(exchange.content_chunks, 3);
    assert_eq!(exchange.usage, usage(7, 3, Some(0)));
    assert_eq!(exchange.finish_reason, Some(FinishReason::Stop));
    assert_eq!(exchange.first_content, exchange.first_answer);
    assert!(exchange.closed.is_some() && exchange.connected.is_some() && !exchange.reused);
    let stamps = exchange.server_timestamps.unwrap();
    assert_eq!(stamps.received, MonotonicTime::from_nanos(1));
    assert_eq!(stamps.last_token_written, MonotonicTime::from_nanos(5));
}

#[tokio::test]
async fn reasoning_is_distinguished_from_the_answer() {
    for field in ["reasoning_content", "reasoning"] {
        let thought = format!("data: {{\"choices\":[{{\"delta\":{{\"{field}\":\"hm\"}}}}]}}\n\n");
        let (exchange, observed) =
            streamed(Api::OpenAiChat, &[&thought, &thought, &token("42"), FINISH, DONE]).await;
        assert_eq!(observed.text(ContentKind::Reasoning), "hmhm");
        assert_eq!(observed.answer(), "42");
        assert_eq!(exchange.first_answer, Some(observed.0[2].0));
        assert_eq!(exchange.first_content, Some(observed.0[0].0));
    }
}

#[tokio::test]
async fn tool_calls_are_content() {
    let (exchange, observed) = streamed(
        Api::OpenAiChat,
        &[
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"add\",\"arguments\":\"\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
            DONE,
        ],
    )
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok));
    assert_eq!(observed.text(ContentKind::ToolCall), "add{\"a\":1}");
    assert_eq!(exchange.finish_reason, Some(FinishReason::ToolCalls));
    assert_eq!(exchange.first_answer, None);
    assert_eq!(exchange.content_chunks, 2);
}

#[tokio::test]
async fn variations_of_servers_are_read() {
    let continuous_usage = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"reasoning_tokens\":1}}\n\n",
        DONE,
    ];
    let (exchange, observed) = streamed(Api::OpenAiChat, &continuous_usage).await;
    assert_eq!(
        (observed.answer().as_str(), exchange.usage),
        ("ab", usage(5, 2, Some(1)))
    );
    assert_eq!(exchange.finish_reason, Some(FinishReason::Length));

    let llama_cpp = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}],\"timings\":{\"prompt_n\":4,\"cache_n\":2,\"predicted_n\":1}}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"timings\":{\"prompt_n\":4,\"cache_n\":2,\"predicted_n\":9}}\n\n",
        DONE,
    ];
    let (exchange, _) = streamed(Api::OpenAiChat, &llama_cpp).await;
    assert_eq!(exchange.usage, usage(6, 9, None));

    let parts = [
        "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"text\",\"text\":\"y\"}]},\"finish_reason\":\"stop\"}]}\n\n",
    ];
    let (_, observed) = streamed(Api::OpenAiChat, &parts).await;
    assert_eq!(observed.answer(), "xy");

    let obfuscated = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"obfuscation\":\"k3\"}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"obfuscation\":\"oPq81\"}\n\n",
        FINISH,
    ];
    let (exchange, observed) = streamed(Api::OpenAiChat, &obfuscated).await;
    assert_eq!(observed.answer(), "ab");
    assert!(
        matches!(exchange.outcome, Outcome::Ok),
        "a missing [DONE] after a finish reason is fine"
    );
}

#[tokio::test]
async fn every_framing_that_the_standard_allows_is_read() {
    let text = ": hello\r\n\r\n\u{feff}: not a mark here\n\nid: 7\nretry: 1\n\
        data:{\"choices\":[{\"delta\":\ndata: {\"content\":\"é\"}}]}\n\n\
        event: message\rdata: {\"choices\":[{\"delta\":{\"content\":\"2\"}}]}\r\r\
        data: {\"choices\":[{\"delta\":{\"content\":\"3\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]";
    // Every byte in an HTTP chunk of its own, which splits characters and lines wherever possible.
    let (exchange, observed) = exchanged(Api::OpenAiChat, move |peer| {
        peer.stream_head();
        for byte in ["\u{feff}", text].concat().bytes() {
            peer.chunk([byte]);
        }
        peer.end_of_chunks();
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(observed.answer(), "é23");
    assert_ordered(&exchange);
}

#[tokio::test]
async fn completions_stream_texts() {
    let event = "data: {\"choices\":[{\"text\":\"ab\",\"index\":0,\"finish_reason\":null}]}\n\n";
    let last = "data: {\"choices\":[{\"text\":\"c\",\"finish_reason\":\"length\"}]}\n\n";
    let (exchange, observed) = streamed(Api::OpenAiCompletions, &[event, event, last, DONE]).await;
    assert_eq!(observed.answer(), "ababc");
    assert_eq!(exchange.finish_reason, Some(FinishReason::Length));
    assert_eq!(exchange.content_chunks, 3);
}

#[tokio::test]
async fn a_message_as_anthropic_streams_it() {
    let delta = |delta: &str| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{delta}}}\n\n"
        )
    };
    let (exchange, observed) = streamed(
        Api::AnthropicMessages,
        &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":20,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            &delta("{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}"),
            &delta("{\"type\":\"signature_delta\",\"signature\":\"xyz\"}"),
            &delta("{\"type\":\"text_delta\",\"text\":\"Hel\"}"),
            &delta("{\"type\":\"text_delta\",\"text\":\"lo\"}"),
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"name\":\"add\",\"input\":{}}}\n\n",
            &delta("{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}"),
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
    )
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(observed.answer(), "Hello");
    assert_eq!(observed.text(ContentKind::Reasoning), "hm");
    assert_eq!(observed.text(ContentKind::ToolCall), "add{}");
    assert_eq!(exchange.usage, usage(25, 9, None));
    assert_eq!(exchange.finish_reason, Some(FinishReason::Stop));
    assert_eq!(exchange.content_chunks, 5);
}

#[tokio::test]
async fn responses_that_are_not_streamed() {
    let cases = [
        (
            Api::OpenAiChat,
            r#"{"choices":[{"message":{"content":"Hi","reasoning_content":"hm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            "hm",
        ),
        (
            Api::OpenAiCompletions,
            r#"{"choices":[{"text":"Hi","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            "",
        ),
        (
            Api::AnthropicMessages,
            r#"{"type":"message","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}"#,
            "hm",
        ),
    ];
    for (api, body, reasoning) in cases {
        let (exchange, observed) = whole(api, body).await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        assert_eq!(observed.answer(), "Hi");
        assert_eq!(observed.text(ContentKind::Reasoning), reasoning);
        assert_eq!(exchange.usage, usage(3, 4, None));
        assert_eq!(exchange.finish_reason, Some(FinishReason::Stop));
        assert_eq!(exchange.content_chunks, 1);
        assert_eq!(exchange.bytes, body.len() as u64);
        assert!(exchange.first_content.is_some());
        assert_eq!(exchange.first_content, exchange.closed);
        assert_eq!(exchange.last_content, exchange.closed);
    }
}

#[tokio::test]
async fn a_stream_that_ends_with_the_connection_is_complete() {
    let (exchange, observed) = exchanged(Api::OpenAiChat, |peer| {
        peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n");
        peer.write([&token("a"), FINISH, DONE].concat());
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(observed.answer(), "a");
    assert!(exchange.closed.is_some());
}

/// Checks a response without the end of its HTTP message; `serve` is what follows instead.
async fn ended_without_the_end_of_the_message(serve: impl FnOnce(&mut Peer) + Send + 'static) {
    let limits = Limits {
        end_timeout: Duration::from_millis(50),
        ..limits()
    };
    let (exchange, _) = exchanged_within(Api::OpenAiChat, limits, |peer| {
        peer.stream_head();
        peer.chunk([&token("a"), FINISH, DONE].concat());
        serve(peer);
    })
    .await;
    assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
    assert_eq!(exchange.closed, None);
}

#[tokio::test]
async fn a_response_does_not_wait_for_the_end_of_its_message() {
    ended_without_the_end_of_the_message(Peer::until_closed).await;
}

/// A server that continues to send does not delay the outcome either.
#[tokio::test]
async fn pings_after_the_end_do_not_delay_the_outcome() {
    ended_without_the_end_of_the_message(|peer| {
        let ping = crate::server::chunk(": ping\n\n");
        while std::io::Write::write_all(&mut peer.0, &ping).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    })
    .await;
}
