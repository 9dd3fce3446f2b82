//! What Anthropic's Messages API sends: <https://docs.anthropic.com/en/api/messages-streaming>.

use serde::Deserialize;
use serde_json::Value;

use super::{Found, Stamps, text::Text};
use crate::{ContentKind, Usage};

/// An event of a stream.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    message: Option<Start>,
    #[serde(borrow)]
    content_block: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    usage: Option<Tokens>,
    error: Option<Value>,
    mock_llm: Option<Stamps>,
}

/// A whole answer.
#[derive(Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(borrow)]
    content: Option<Vec<Block<'a>>>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
    usage: Option<Tokens>,
    error: Option<Value>,
    mock_llm: Option<Stamps>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    /// The tool's, of a block that calls one.
    #[serde(borrow, default)]
    name: Text<'a>,
    /// The tool's arguments; an empty object at the start of a streamed block.
    input: Option<Value>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    thinking: Text<'a>,
    #[serde(borrow, default)]
    partial_json: Text<'a>,
    #[serde(borrow, default)]
    stop_reason: Text<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl<'a> Event<'a> {
    pub(super) fn found(self, found: &mut Found<'a>) {
        found.error = self.error.filter(|error| !error.is_null());
        if self.kind.0 == "error" && found.error.is_none() {
            found.error = Some(Value::Null);
        }
        found.is_end = self.kind.0 == "message_stop";
        let started = self.message.and_then(|start| start.usage);
        found.usage = self.usage.or(started).map(Usage::from);
        found.stamps = self.mock_llm.map(Into::into);
        if let Some(block) = self.content_block {
            block.found(found);
        }
        if let Some(delta) = self.delta {
            found.text(ContentKind::Reasoning, delta.thinking);
            found.text(ContentKind::Answer, delta.text);
            found.text(ContentKind::ToolCall, delta.partial_json);
            found.finish(&delta.stop_reason.0);
        }
    }
}

impl<'a> Whole<'a> {
    pub(super) fn found(self, found: &mut Found<'a>) {
        found.error = self.error.filter(|error| !error.is_null());
        found.usage = self.usage.map(Usage::from);
        found.stamps = self.mock_llm.map(Into::into);
        found.is_answer = self.content.is_some();
        for block in self.content.into_iter().flatten() {
            block.found(found);
        }
        found.finish(&self.stop_reason.0);
    }
}

impl<'a> Block<'a> {
    fn found(self, found: &mut Found<'a>) {
        found.text(ContentKind::Reasoning, self.thinking);
        found.text(ContentKind::Answer, self.text);
        found.text(ContentKind::ToolCall, self.name);
        if let Some(input) = self
            .input
            .filter(|input| input.as_object().is_some_and(|fields| !fields.is_empty()))
        {
            found.text(ContentKind::ToolCall, Text(input.to_string().into()));
        }
    }
}

impl From<Tokens> for Usage {
    /// Anthropic counts what is read from and written to the cache beside the input, not in it.
    fn from(tokens: Tokens) -> Self {
        let cached = [tokens.cache_creation_input_tokens, tokens.cache_read_input_tokens];
        let cached = cached.into_iter().flatten().fold(0, u64::saturating_add);
        Self {
            input_tokens: tokens.input_tokens.map(|input| input.saturating_add(cached)),
            output_tokens: tokens.output_tokens,
            reasoning_tokens: None,
        }
    }
}
