use serde_json::Value;

use super::{
    Api, ResponseFacts,
    event_writer::Stream,
    generation_request::{Prompt, Prompts},
    openai,
};

/// OpenAI's older completions. They have one kind of delta only.
#[derive(Debug)]
pub(crate) struct OpenAiCompletions;

impl Api for OpenAiCompletions {
    fn path(&self) -> &'static str {
        "/v1/completions"
    }

    fn prompt(&self, prompts: Prompts) -> (&'static str, Option<Prompt>) {
        ("prompt", prompts.prompt)
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai::error(status, message)
    }

    fn whole_body(&self, facts: &ResponseFacts, text: &str, timestamps: &str) -> String {
        let choice = format!(r#""text":"{text}","logprobs":null"#);
        openai::whole_body(("cmpl", "text_completion"), facts, &choice, timestamps)
    }

    fn event_start(&self, facts: &ResponseFacts) -> String {
        openai::event_start("cmpl", "text_completion", facts)
    }

    fn around_text(&self, stream: &Stream) -> (String, &'static str) {
        let start = &stream.event_start;
        (
            format!(r#"{start}{{"index":0,"text":""#),
            r#"","logprobs":null,"finish_reason":null}]}"#,
        )
    }

    fn empty_event(&self, stream: &Stream) -> String {
        openai::empty_event(stream)
    }

    fn closing(&self, stream: &Stream, timestamps: &str) -> Vec<String> {
        let finish = openai::finish_word(stream.facts.finish_reason);
        openai::closing(stream, r#""text":"","logprobs":null"#, finish, timestamps)
    }
}
