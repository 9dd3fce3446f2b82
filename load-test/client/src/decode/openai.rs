//! What OpenAI's API and the many servers that speak it send: chat completions and completions, streamed or whole.

use serde::Deserialize;
use serde_json::Value;

use super::{Found, Stamps, text::Text};
use crate::{ContentKind, Usage};

/// An event of a stream, or a whole answer: the one has `delta`, the other `message`, the older API `text`.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Tokens>,
    /// llama.cpp's own count, for its versions that send no usage.
    timings: Option<Timings>,
    error: Option<Value>,
    /// vLLM before 0.10: `{"object": "error", "message": …}` at the top.
    #[serde(borrow, default)]
    object: Text<'a>,
    #[serde(borrow, default)]
    message: Text<'a>,
    mock_llm: Option<Stamps>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: Text<'a>,
    #[serde(borrow, default)]
    finish_reason: Text<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Text<'a>,
    /// DeepSeek, vLLM, SGLang, llama.cpp.
    #[serde(borrow, default)]
    reasoning_content: Text<'a>,
    /// OpenRouter, Ollama, newer vLLM.
    #[serde(borrow, default)]
    reasoning: Text<'a>,
    /// A refusal is the answer's text, in a field of its own.
    #[serde(borrow, default)]
    refusal: Text<'a>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    arguments: Text<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    completion_tokens_details: Option<TokenDetails>,
    /// SGLang has it here.
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct TokenDetails {
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Timings {
    /// Tokens of the prompt that were processed, without those from the cache.
    prompt_n: Option<u64>,
    cache_n: Option<u64>,
    predicted_n: Option<u64>,
}

impl<'a> Chunk<'a> {
    pub(super) fn found(self, found: &mut Found<'a>) {
        if self.object.0 == "error" {
            found.error = Some(Value::String(self.message.0.into_owned()));
        }
        found.error = self.error.filter(|error| !error.is_null()).or(found.error.take());
        found.usage = self.usage.map(Usage::from);
        found.fallback_usage = self.timings.map(Usage::from);
        found.stamps = self.mock_llm.map(Into::into);
        found.is_answer = self.choices.is_some();
        for choice in self.choices.into_iter().flatten() {
            choice.found(found);
        }
    }
}

impl<'a> Choice<'a> {
    fn found(self, found: &mut Found<'a>) {
        for delta in [self.delta, self.message].into_iter().flatten() {
            delta.found(found);
        }
        found.text(ContentKind::Answer, self.text);
        found.finish(&self.finish_reason.0);
    }
}

impl<'a> Delta<'a> {
    fn found(self, found: &mut Found<'a>) {
        // Servers that send both names of the reasoning send the same text twice.
        let reasoning = if self.reasoning_content.0.is_empty() {
            self.reasoning
        } else {
            found.ambiguous |= !self.reasoning.0.is_empty();
            self.reasoning_content
        };
        found.text(ContentKind::Reasoning, reasoning);
        found.text(ContentKind::Answer, self.content);
        found.text(ContentKind::Answer, self.refusal);
        for call in self.tool_calls.into_iter().flatten() {
            if let Some(function) = call.function {
                found.text(ContentKind::ToolCall, function.name);
                found.text(ContentKind::ToolCall, function.arguments);
            }
        }
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let details = tokens.completion_tokens_details;
        Self {
            input_tokens: tokens.prompt_tokens,
            output_tokens: tokens.completion_tokens,
            reasoning_tokens: details
                .and_then(|details| details.reasoning_tokens)
                .or(tokens.reasoning_tokens),
        }
    }
}

impl From<Timings> for Usage {
    fn from(timings: Timings) -> Self {
        let cached = timings.cache_n.unwrap_or(0);
        Self {
            input_tokens: timings.prompt_n.map(|processed| processed.saturating_add(cached)),
            output_tokens: timings.predicted_n,
            reasoning_tokens: None,
        }
    }
}
