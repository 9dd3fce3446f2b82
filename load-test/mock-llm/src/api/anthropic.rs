use serde_json::{Value, json};

use super::{
    Api, DeltaKind, FinishReason, ResponseFacts,
    event_writer::Stream,
    generation_request::{Prompt, Prompts},
};

/// Anthropic's messages.
#[derive(Debug)]
pub(crate) struct AnthropicMessages;

const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}";

const fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
    }
}

/// The field with the tokens that were counted, where responses state them.
fn usage(facts: &ResponseFacts, output_tokens: u32) -> String {
    if !facts.states_usage {
        return String::new();
    }
    let input_tokens = facts.input_tokens;
    format!(r#","usage":{{"input_tokens":{input_tokens},"output_tokens":{output_tokens}}}"#)
}

impl Api for AnthropicMessages {
    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn prompt(&self, prompts: Prompts) -> (&'static str, Option<Prompt>) {
        ("messages", prompts.messages)
    }

    fn requires_max_tokens(&self) -> bool {
        true
    }

    fn always_states_usage(&self) -> bool {
        true
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let kind = match status {
            401 => "authentication_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": message}})
    }

    fn whole_body(&self, facts: &ResponseFacts, text: &str, timestamps: &str) -> String {
        let ResponseFacts { number, model, .. } = facts;
        let (finish, usage) = (
            finish_word(facts.finish_reason),
            usage(facts, facts.output_tokens),
        );
        format!(
            r#"{{"id":"msg_{number}","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":"{text}"}}],"stop_reason":"{finish}","stop_sequence":null{usage},{timestamps}}}"#
        )
    }

    fn around_text(&self, stream: &Stream) -> (String, &'static str) {
        let delta = match stream.kind {
            DeltaKind::Content => r#"{"type":"text_delta","text":""#,
            DeltaKind::ReasoningContent | DeltaKind::Reasoning => r#"{"type":"thinking_delta","thinking":""#,
            DeltaKind::ToolArguments => r#"{"type":"input_json_delta","partial_json":""#,
        };
        let block = stream.block;
        let before = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{block},\"delta\":{delta}"
        );
        (before, r#""}}"#)
    }

    fn opening(&self, stream: &Stream) -> Vec<String> {
        let ResponseFacts { number, model, .. } = &stream.facts;
        let usage = usage(&stream.facts, 1);
        let mut events = vec![format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_{number}\",\"type\":\"message\",\
             \"role\":\"assistant\",\"model\":{model},\"content\":[],\"stop_reason\":null,\"stop_sequence\":null{usage}}}}}"
        )];
        events.extend(self.start_of_block(stream));
        events.push(PING.to_owned());
        events
    }

    fn end_of_block(&self, stream: &Stream) -> Vec<String> {
        let block = stream.block;
        vec![format!(
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{block}}}"
        )]
    }

    fn start_of_block(&self, stream: &Stream) -> Vec<String> {
        let content = match stream.kind {
            DeltaKind::Content => r#"{"type":"text","text":""}"#,
            DeltaKind::ReasoningContent | DeltaKind::Reasoning => {
                r#"{"type":"thinking","thinking":"","signature":""}"#
            }
            DeltaKind::ToolArguments => {
                r#"{"type":"tool_use","id":"toolu_mock","name":"look_up","input":{}}"#
            }
        };
        let block = stream.block;
        vec![format!(
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{block},\"content_block\":{content}}}"
        )]
    }

    fn empty_event(&self, _stream: &Stream) -> String {
        PING.to_owned()
    }

    fn error_event(&self, message: &str) -> String {
        format!("event: error\ndata: {}", self.error(500, message))
    }

    fn closing(&self, stream: &Stream, timestamps: &str) -> Vec<String> {
        let facts = &stream.facts;
        let finish = match stream.kind {
            DeltaKind::ToolArguments => "tool_use",
            _ => finish_word(facts.finish_reason),
        };
        let usage = usage(facts, facts.output_tokens);
        let mut events = self.end_of_block(stream);
        events.push(format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{finish}\",\"stop_sequence\":null}}{usage},{timestamps}}}"
        ));
        events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}".to_owned());
        events
    }
}
