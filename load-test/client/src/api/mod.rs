//! The APIs that generate text. One file for each of them holds everything in which it differs from the others: addresses,
//! authentication, the request's body, and how its responses are read. To add an API, write such a file and add it to the list
//! below.

mod anthropic;
mod event_decoder;
mod event_template;
mod json_text;
mod openai;
mod openai_chat;
mod openai_completions;
mod response_data;

use bytes::Bytes;
use serde_json::{Map, Value};

pub(crate) use self::{
    event_decoder::{DecodedEvent, EventDecoder},
    response_data::ResponseData,
};
use crate::Generation;

macro_rules! apis {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal in $file:ident;)+) => {
        /// An API that generates text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum Api {
            $($(#[$doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Api {
            /// Every API there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub(crate) fn definition(self) -> &'static ApiDefinition {
                match self {
                    $(Self::$variant => &$file::DEFINITION,)+
                }
            }
        }
    };
}

apis! {
    /// `POST {base}/chat/completions`; the base usually ends in `/v1` (LLMPerf's `OPENAI_API_BASE`).
    OpenAiChat = "openai-chat" in openai_chat;
    /// `POST {base}/completions`: a prompt without messages.
    OpenAiCompletions = "openai-completions" in openai_completions;
    /// `POST {base}/v1/messages`.
    AnthropicMessages = "anthropic-messages" in anthropic;
}

impl Api {
    /// The names by which users select this API.
    #[must_use]
    pub fn names(self) -> &'static [ApiName] {
        self.definition().names
    }

    /// The provider whose API it is.
    #[must_use]
    pub fn provider(self) -> &'static Provider {
        self.definition().provider
    }
}

/// A name by which users select an API.
#[derive(Debug)]
pub struct ApiName {
    /// The name itself.
    pub name: &'static str,
    /// LLMPerf's name for it, as its result files have it.
    pub llmperf: &'static str,
    /// One line of help.
    pub help: &'static str,
}

/// The provider that defined an API: where it serves the API, and the environment variables that its client libraries read.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// The provider's own server.
    pub base_url: &'static str,
    /// Variables with the base URL of another server, the first that is set counts.
    pub base_url_variables: [&'static str; 2],
    /// The variable with the API key.
    pub key_variable: &'static str,
}

impl Provider {
    /// The path of [`Self::base_url`], such as `/v1`; empty where it has none.
    #[must_use]
    pub fn base_path(&self) -> &'static str {
        let (_, address) = self.base_url.split_once("://").unwrap_or_default();
        address.find('/').map_or("", |at| &address[at..])
    }
}

/// What distinguishes one API from another.
pub(crate) struct ApiDefinition {
    pub(crate) names: &'static [ApiName],
    pub(crate) provider: &'static Provider,
    /// Appended to the base URL.
    pub(crate) path: &'static str,
    /// The header that carries the API key, and what stands before the key in it.
    pub(crate) key_header: (&'static str, &'static str),
    /// Headers of every request, beside those that all APIs have.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The request's body without [`Generation::sampling`]. The flag says whether a stream is to report its usage.
    body: fn(&Generation<'_>, bool) -> Map<String, Value>,
    /// Reads the data of one event of a stream.
    decode_event: Decode,
    /// Reads the body of a response that is not streamed.
    decode_document: Decode,
}

type Decode = for<'a> fn(&'a [u8]) -> serde_json::Result<ResponseData<'a>>;

impl ApiDefinition {
    /// A request's body.
    pub(crate) fn encode(&self, generation: &Generation<'_>, wants_stream_usage: bool) -> Bytes {
        let mut body = (self.body)(generation, wants_stream_usage);
        body.extend(generation.sampling.clone());
        Bytes::from(Value::Object(body).to_string())
    }
}

/// The fields of a request's body that all APIs have.
fn common_body(generation: &Generation<'_>, max_tokens: Option<u32>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".into(), generation.model.into());
    body.insert("stream".into(), generation.stream.into());
    // `max_completion_tokens` is the newer name of the same limit; servers refuse a request with both.
    if let Some(max_tokens) = max_tokens
        && !generation.sampling.contains_key("max_completion_tokens")
    {
        body.insert("max_tokens".into(), max_tokens.into());
    }
    body
}

#[cfg(test)]
mod tests;
