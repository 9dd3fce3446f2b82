//! Anthropic's Messages API: <https://docs.anthropic.com/en/api/messages-streaming>.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ApiDefinition, ApiName, Provider, common_body, json_text::JsonText, response_data::ResponseData,
};
use crate::{ContentKind, Generation, Role, ServerTimestamps, Usage};

pub(super) static DEFINITION: ApiDefinition = ApiDefinition {
    names: &[ApiName {
        name: "anthropic",
        llmperf: "anthropic",
        help: "Anthropic's messages",
    }],
    provider: &Provider {
        base_url: "https://api.anthropic.com",
        base_url_variables: ["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"],
        key_variable: "ANTHROPIC_API_KEY",
    },
    path: "v1/messages",
    key_header: ("x-api-key", ""),
    // The version whose events are read here.
    headers: &[("anthropic-version", "2023-06-01")],
    body,
    decode_event: |data| Ok(serde_json::from_slice::<Event<'_>>(data)?.data()),
    decode_document: |body| Ok(serde_json::from_slice::<Document<'_>>(body)?.data()),
};

/// The limit of tokens where none is asked for: the API demands one.
const DEFAULT_MAX_TOKENS: u32 = 4096;

/// System messages stand beside the conversation. The API always reports its usage.
fn body(generation: &Generation<'_>, _wants_usage: bool) -> Map<String, Value> {
    let max_tokens = generation.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let mut body = common_body(generation, Some(max_tokens));
    let is_system = |role| role == Role::System;
    let system = generation.prompt.text(is_system);
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    let messages = generation.prompt.messages(|role| !is_system(role));
    body.insert("messages".into(), messages);
    body
}

/// An event of a stream.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: JsonText<'a>,
    message: Option<Start>,
    #[serde(borrow)]
    content_block: Option<Block<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    usage: Option<Tokens>,
    error: Option<Value>,
    mock_llm: Option<ServerTimestamps>,
}

/// The body of a response that is not streamed.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    content: Option<Vec<Block<'a>>>,
    #[serde(borrow, default)]
    stop_reason: JsonText<'a>,
    usage: Option<Tokens>,
    error: Option<Value>,
    mock_llm: Option<ServerTimestamps>,
}

#[derive(Deserialize)]
struct Start {
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    text: JsonText<'a>,
    #[serde(borrow, default)]
    thinking: JsonText<'a>,
    /// The name of a called tool.
    #[serde(borrow, default)]
    name: JsonText<'a>,
    /// The tool's arguments; an empty object at the start of a streamed block.
    input: Option<Value>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: JsonText<'a>,
    #[serde(borrow, default)]
    thinking: JsonText<'a>,
    #[serde(borrow, default)]
    partial_json: JsonText<'a>,
    #[serde(borrow, default)]
    stop_reason: JsonText<'a>,
}

#[derive(Deserialize)]
struct Tokens {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl<'a> Event<'a> {
    fn data(self) -> ResponseData<'a> {
        let error = self.error.filter(|error| !error.is_null());
        let at_start = self.message.and_then(|start| start.usage);
        let mut data = ResponseData {
            error: error.or_else(|| (self.kind.0 == "error").then_some(Value::Null)),
            is_end: self.kind.0 == "message_stop",
            usage: self.usage.or(at_start).map(Usage::from),
            server_timestamps: self.mock_llm,
            ..ResponseData::default()
        };
        if let Some(block) = self.content_block {
            block.add_to(&mut data);
        }
        if let Some(delta) = self.delta {
            data.push_text(ContentKind::Reasoning, delta.thinking);
            data.push_text(ContentKind::Answer, delta.text);
            data.push_text(ContentKind::ToolCall, delta.partial_json);
            data.finish(&delta.stop_reason.0);
        }
        data
    }
}

impl<'a> Document<'a> {
    fn data(self) -> ResponseData<'a> {
        let mut data = ResponseData {
            error: self.error.filter(|error| !error.is_null()),
            usage: self.usage.map(Usage::from),
            server_timestamps: self.mock_llm,
            is_generation: self.content.is_some(),
            ..ResponseData::default()
        };
        for block in self.content.into_iter().flatten() {
            block.add_to(&mut data);
        }
        data.finish(&self.stop_reason.0);
        data
    }
}

impl<'a> Block<'a> {
    fn add_to(self, data: &mut ResponseData<'a>) {
        data.push_text(ContentKind::Reasoning, self.thinking);
        data.push_text(ContentKind::Answer, self.text);
        data.push_text(ContentKind::ToolCall, self.name);
        if let Some(input) = self
            .input
            .filter(|input| input.as_object().is_some_and(|fields| !fields.is_empty()))
        {
            data.push_text(ContentKind::ToolCall, JsonText(input.to_string().into()));
        }
    }
}

impl From<Tokens> for Usage {
    /// Anthropic does not include tokens that are read from or written to the cache in `input_tokens`.
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
