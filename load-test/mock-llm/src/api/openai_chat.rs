use serde_json::Value;

use super::{
    Api, DeltaKind, ResponseFacts,
    event_writer::Stream,
    generation_request::{Prompt, Prompts},
    openai,
};

/// OpenAI's chat completions.
#[derive(Debug)]
pub(crate) struct OpenAiChat;

impl Api for OpenAiChat {
    fn path(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn prompt(&self, prompts: Prompts) -> (&'static str, Option<Prompt>) {
        ("messages", prompts.messages)
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai::error(status, message)
    }

    fn whole_body(&self, facts: &ResponseFacts, text: &str, timestamps: &str) -> String {
        let choice = format!(r#""message":{{"role":"assistant","content":"{text}"}}"#);
        openai::whole_body(("chatcmpl", "chat.completion"), facts, &choice, timestamps)
    }

    fn event_start(&self, facts: &ResponseFacts) -> String {
        openai::event_start("chatcmpl", "chat.completion.chunk", facts)
    }

    fn around_text(&self, stream: &Stream) -> (String, &'static str) {
        let after = r#""},"finish_reason":null}]}"#;
        let (delta, after) = match stream.kind {
            DeltaKind::Content => (r#"{"content":""#, after),
            DeltaKind::ReasoningContent => (r#"{"reasoning_content":""#, after),
            DeltaKind::Reasoning => (r#"{"reasoning":""#, after),
            DeltaKind::ToolArguments => (
                r#"{"tool_calls":[{"index":0,"function":{"arguments":""#,
                r#""}}]},"finish_reason":null}]}"#,
            ),
        };
        let start = &stream.event_start;
        (format!(r#"{start}{{"index":0,"delta":{delta}"#), after)
    }

    fn opening(&self, stream: &Stream) -> Vec<String> {
        let start = &stream.event_start;
        vec![format!(
            r#"{start}{{"index":0,"delta":{{"role":"assistant","content":""}},"finish_reason":null}}]}}"#
        )]
    }

    fn tool_call(&self, stream: &Stream) -> Vec<String> {
        let start = &stream.event_start;
        vec![format!(
            r#"{start}{{"index":0,"delta":{{"tool_calls":[{{"index":0,"id":"call_mock","type":"function","function":{{"name":"look_up","arguments":""}}}}]}},"finish_reason":null}}]}}"#
        )]
    }

    fn empty_event(&self, stream: &Stream) -> String {
        openai::empty_event(stream)
    }

    fn closing(&self, stream: &Stream, timestamps: &str) -> Vec<String> {
        let finish = match stream.kind {
            DeltaKind::ToolArguments => "tool_calls",
            _ => openai::finish_word(stream.facts.finish_reason),
        };
        openai::closing(stream, r#""delta":{}"#, finish, timestamps)
    }
}
