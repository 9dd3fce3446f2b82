//! What OpenAI's chat completions and completions have in common, with the variations of the servers that speak them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Provider, common_body, json_text::JsonText, response_data::ResponseData};
use crate::{ContentKind, Generation, ServerTimestamps, Usage};

pub(super) static PROVIDER: Provider = Provider {
    base_url: "https://api.openai.com/v1",
    base_url_variables: ["OPENAI_API_BASE", "OPENAI_BASE_URL"],
    key_variable: "OPENAI_API_KEY",
};

pub(super) const KEY_HEADER: (&str, &str) = ("authorization", "Bearer ");

/// The request's body without its prompt.
pub(super) fn body(generation: &Generation<'_>, wants_usage: bool) -> Map<String, Value> {
    let mut body = common_body(generation, generation.max_tokens);
    if generation.stream && wants_usage {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    body
}

/// Reads an event of a stream or a whole body.
pub(super) fn decode(json: &[u8]) -> serde_json::Result<ResponseData<'_>> {
    Ok(serde_json::from_slice::<Completion<'_>>(json)?.data())
}

/// An event of a stream or a whole body. A chat's choices have a `delta` in events and a `message` in a body; the older API's have
/// a `text`.
#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Tokens>,
    /// llama.cpp's counts; some of its versions send no usage.
    timings: Option<Timings>,
    error: Option<Value>,
    /// vLLM before 0.10: `{"object": "error", "message": …}` at the top.
    #[serde(borrow, default)]
    object: JsonText<'a>,
    #[serde(borrow, default)]
    message: JsonText<'a>,
    mock_llm: Option<ServerTimestamps>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    #[serde(borrow, default)]
    text: JsonText<'a>,
    #[serde(borrow, default)]
    finish_reason: JsonText<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: JsonText<'a>,
    /// DeepSeek, vLLM, SGLang, llama.cpp.
    #[serde(borrow, default)]
    reasoning_content: JsonText<'a>,
    /// OpenRouter, Ollama, newer vLLM.
    #[serde(borrow, default)]
    reasoning: JsonText<'a>,
    /// A refusal's text, which has a field of its own.
    #[serde(borrow, default)]
    refusal: JsonText<'a>,
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
    name: JsonText<'a>,
    #[serde(borrow, default)]
    arguments: JsonText<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    completion_tokens_details: Option<TokenDetails>,
    /// SGLang has the field here.
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct TokenDetails {
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Timings {
    /// Tokens of the prompt that were processed, without the cached ones.
    prompt_n: Option<u64>,
    cache_n: Option<u64>,
    predicted_n: Option<u64>,
}

impl<'a> Completion<'a> {
    fn data(self) -> ResponseData<'a> {
        let message = || (self.object.0 == "error").then(|| Value::String(self.message.0.into_owned()));
        let mut data = ResponseData {
            error: self.error.filter(|error| !error.is_null()).or_else(message),
            usage: self.usage.map(Usage::from),
            fallback_usage: self.timings.map(Usage::from),
            server_timestamps: self.mock_llm,
            is_generation: self.choices.is_some(),
            ..ResponseData::default()
        };
        for choice in self.choices.into_iter().flatten() {
            choice.add_to(&mut data);
        }
        data
    }
}

impl<'a> Choice<'a> {
    fn add_to(self, data: &mut ResponseData<'a>) {
        for delta in [self.delta, self.message].into_iter().flatten() {
            delta.add_to(data);
        }
        data.push_text(ContentKind::Answer, self.text);
        data.finish(&self.finish_reason.0);
    }
}

impl<'a> Delta<'a> {
    fn add_to(self, data: &mut ResponseData<'a>) {
        // Servers that send both fields send the same text in both.
        let reasoning = if self.reasoning_content.0.is_empty() {
            self.reasoning
        } else {
            data.is_no_template |= !self.reasoning.0.is_empty();
            self.reasoning_content
        };
        data.push_text(ContentKind::Reasoning, reasoning);
        data.push_text(ContentKind::Answer, self.content);
        data.push_text(ContentKind::Answer, self.refusal);
        for call in self.tool_calls.into_iter().flatten() {
            if let Some(function) = call.function {
                data.push_text(ContentKind::ToolCall, function.name);
                data.push_text(ContentKind::ToolCall, function.arguments);
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
