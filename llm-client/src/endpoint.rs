use std::fmt;

use bytes::Bytes;
use shared_types::Secret;

use crate::Generation;

/// Where Anthropic's own API is.
pub const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";

/// An API that generates text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Api {
    /// `POST {base}/chat/completions`, where the base ends in `/v1` as a rule (LLMPerf's `OPENAI_API_BASE`).
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// `POST {base}/completions`: a prompt, no messages.
    #[serde(rename = "openai-completions")]
    OpenAiCompletions,
    /// `POST {base}/v1/messages`.
    #[serde(rename = "anthropic-messages")]
    AnthropicMessages,
}

/// Where requests go, and the headers that all of them carry.
#[derive(Clone)]
pub struct Endpoint {
    api: Api,
}

/// Why something is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The base URL is none that requests can go to.
    #[error("base URL {url:?}: {reason}; expected something like https://host:8000/v1")]
    Url {
        /// What was given, without its password.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header's name cannot be sent.
    #[error("header name {name:?}: expected letters, digits and dashes")]
    HeaderName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: http::header::InvalidHeaderName,
    },
    /// A header's value, or the key, cannot be sent. It is not shown: it may be secret.
    #[error("the value of header {name}: expected visible ASCII characters")]
    HeaderValue {
        /// The header.
        name: String,
        /// What is wrong with it.
        source: http::header::InvalidHeaderValue,
    },
}

impl Endpoint {
    /// The endpoint of `api` below `base_url` (http or https, with or without a slash at the end).
    ///
    /// # Errors
    ///
    /// Where the URL is none, or the key cannot be a header.
    #[expect(clippy::todo, reason = "its body comes with the next commit")]
    pub fn new(api: Api, base_url: &str, key: Option<Secret>) -> Result<Self, EndpointError> {
        let _ = (api, base_url, key);
        todo!()
    }

    /// Trusts these certificate authorities (DER) too, beside the platform's (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace those).
    ///
    /// # Errors
    ///
    /// Where one cannot be read as a certificate.
    pub fn with_roots(self, roots: &[Vec<u8>]) -> Result<Self, EndpointError> {
        let _ = roots;
        Ok(self)
    }

    /// Adds a header to every request; one that is there already is replaced.
    ///
    /// # Errors
    ///
    /// Where it cannot be sent.
    #[expect(clippy::todo, reason = "its body comes with the next commit")]
    pub fn with_header(self, name: &str, value: &Secret) -> Result<Self, EndpointError> {
        let _ = (name, value);
        todo!()
    }

    /// Does not ask for the usage in OpenAI's streams (`stream_options.include_usage`): some servers refuse the field.
    #[must_use]
    pub fn without_stream_usage(self) -> Self {
        self
    }

    /// Which API it is.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api
    }

    /// A request's body.
    #[must_use]
    #[expect(clippy::todo, reason = "its body comes with the next commit")]
    pub fn encode(&self, generation: &Generation<'_>) -> Bytes {
        let _ = generation;
        todo!()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}
