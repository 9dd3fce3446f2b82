use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use shared_types::Secret;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use url::Url;

use crate::{Generation, tls::Tls};

/// Where Anthropic's own API is.
pub const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";

/// The version of Anthropic's API whose events are understood here.
const ANTHROPIC_VERSION: &str = "2023-06-01";

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

impl Api {
    fn path(self) -> &'static str {
        match self {
            Self::OpenAiChat => "chat/completions",
            Self::OpenAiCompletions => "completions",
            Self::AnthropicMessages => "v1/messages",
        }
    }
}

/// Where requests go, and the headers that all of them carry. Cheap to clone: make one for all threads.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) api: Api,
    /// Path and query, as they stand in the request line.
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) tls: Option<Tls>,
    pub(crate) asks_for_stream_usage: bool,
}

/// Why something is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The base URL is none that requests can go to.
    #[error("base URL {url:?}: {reason}; expected something like https://host:8000/v1")]
    Url {
        /// What was given, without user, password and query.
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
        name: HeaderName,
        /// What is wrong with it.
        source: http::header::InvalidHeaderValue,
    },
    /// A certificate authority cannot be read.
    #[error("a certificate authority that is no certificate (expected X.509 in DER)")]
    Root(#[source] tokio_rustls::rustls::Error),
}

impl Endpoint {
    /// The endpoint of `api` below `base_url` (http or https, with or without a slash at the end), with `key` as the API wants
    /// it: `authorization: Bearer …`, or Anthropic's `x-api-key`.
    ///
    /// # Errors
    ///
    /// Where the URL is none, or the key cannot be a header.
    pub fn new(api: Api, base_url: &str, key: Option<Secret>) -> Result<Self, EndpointError> {
        let place = Place::parse(api, base_url)?;
        let tls = place.name.map(Tls::new);
        let mut endpoint = Self {
            api,
            target: place.target,
            headers: HeaderMap::new(),
            host: place.host,
            port: place.port,
            tls,
            asks_for_stream_usage: true,
        };
        endpoint.headers.insert(HOST, place.authority);
        let fixed = [
            (CONTENT_TYPE, "application/json"),
            (USER_AGENT, concat!("llm-bench/", env!("CARGO_PKG_VERSION"))),
        ];
        for (name, value) in fixed {
            endpoint.headers.insert(name, HeaderValue::from_static(value));
        }
        if api == Api::AnthropicMessages {
            let version = HeaderValue::from_static(ANTHROPIC_VERSION);
            endpoint.headers.insert("anthropic-version", version);
        }
        let authorization = key.map(|key| match api {
            Api::AnthropicMessages => (HeaderName::from_static("x-api-key"), key),
            Api::OpenAiChat | Api::OpenAiCompletions => {
                let bearer = format!("Bearer {}", key.expose());
                (AUTHORIZATION, Secret::new(bearer))
            }
        });
        if let Some((name, value)) = authorization {
            endpoint.insert(name, value.expose())?;
        }
        Ok(endpoint)
    }

    /// Trusts these certificate authorities (DER) too, beside the platform's (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace
    /// those). Without effect where the scheme is http.
    ///
    /// # Errors
    ///
    /// Where one cannot be read as a certificate.
    pub fn with_roots(mut self, roots: &[Vec<u8>]) -> Result<Self, EndpointError> {
        if let Some(tls) = &mut self.tls {
            let roots = roots.iter().map(|root| CertificateDer::from(root.as_slice()));
            tls.trust(roots).map_err(EndpointError::Root)?;
        }
        Ok(self)
    }

    /// Adds a header to every request; one that is there already is replaced.
    ///
    /// # Errors
    ///
    /// Where it cannot be sent.
    pub fn with_header(mut self, name: &str, value: &Secret) -> Result<Self, EndpointError> {
        let name = HeaderName::try_from(name).map_err(|source| EndpointError::HeaderName {
            name: name.to_owned(),
            source,
        })?;
        self.insert(name, value.expose())?;
        Ok(self)
    }

    /// Does not ask for the usage in OpenAI's streams (`stream_options.include_usage`): some servers refuse the field.
    #[must_use]
    pub fn without_stream_usage(mut self) -> Self {
        self.asks_for_stream_usage = false;
        self
    }

    /// Where requests go, such as `https://api.openai.com:443/v1/chat/completions`; without a query, which may hold a key.
    #[must_use]
    pub fn place(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.target.path())
    }

    /// Which API it is.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api
    }

    /// `text` without the keys that go with every request: a server may tell back which one it refuses.
    #[must_use]
    pub fn without_keys(&self, text: Box<str>) -> Box<str> {
        let values = self.headers.values().filter(|value| value.is_sensitive());
        let keys = values
            .filter_map(|value| value.to_str().ok())
            .map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
        keys.filter(|key| !key.is_empty()).fold(text, |text, key| {
            let text = if text.contains(key) {
                text.replace(key, "[key]").into()
            } else {
                text
            };
            without_cut_key(text, key)
        })
    }

    /// A request's body, to be sent by [`Client::exchange`](crate::Client::exchange).
    #[must_use]
    pub fn encode(&self, generation: &Generation<'_>) -> Bytes {
        generation.encode(self.api, self.asks_for_stream_usage)
    }

    fn insert(&mut self, name: HeaderName, value: &str) -> Result<(), EndpointError> {
        let mut value = HeaderValue::try_from(value).map_err(|source| EndpointError::HeaderValue {
            name: name.clone(),
            source,
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }
}

/// `text` without the beginning of `key` at its end: texts are cut to what is worth showing, and the cut may go through a key.
fn without_cut_key(text: Box<str>, key: &str) -> Box<str> {
    const TELLING: usize = 4;
    let cut = (TELLING..key.len())
        .rev()
        .filter_map(|length| key.get(..length))
        .find(|beginning| text.ends_with(beginning));
    match cut {
        Some(beginning) => format!("{}[key]", &text[..text.len() - beginning.len()]).into(),
        None => text,
    }
}

impl fmt::Debug for Endpoint {
    /// Without the headers: any of them may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("api", &self.api)
            .field("scheme", if self.tls.is_some() { &"https" } else { &"http" })
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &self.target.path())
            .finish_non_exhaustive()
    }
}

/// What a base URL says.
struct Place {
    target: Uri,
    authority: HeaderValue,
    host: Arc<str>,
    port: u16,
    /// The name that the server's certificate must have, for https.
    name: Option<ServerName<'static>>,
}

impl Place {
    fn parse(api: Api, base_url: &str) -> Result<Self, EndpointError> {
        let refuse = |reason| EndpointError::Url {
            url: without_secrets(base_url),
            reason,
        };
        let mut url = Url::parse(base_url.trim()).map_err(|_| refuse("it is no URL"))?;
        let is_https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(refuse("its scheme is neither http nor https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it holds a user or password, which no LLM API asks for"));
        }
        url.set_fragment(None);
        let path = format!("{}/{}", url.path().trim_end_matches('/'), api.path());
        url.set_path(&path);
        let target = &url[url::Position::BeforePath..];
        let target = Uri::try_from(target).map_err(|_| refuse("its path cannot be requested"))?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let authority =
            HeaderValue::try_from(authority).map_err(|_| refuse("its host cannot be a header"))?;
        let host = url.host_str().ok_or_else(|| refuse("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = if is_https {
            let name = ServerName::try_from(host.to_owned());
            Some(name.map_err(|_| refuse("its host cannot have a certificate"))?)
        } else {
            None
        };
        Ok(Self {
            target,
            authority,
            host: host.into(),
            port: url
                .port_or_known_default()
                .unwrap_or(if is_https { 443 } else { 80 }),
            name,
        })
    }
}

/// What of a URL may be shown. What cannot be taken apart is not shown at all where it might hold a password.
fn without_secrets(given: &str) -> String {
    let Ok(mut url) = Url::parse(given.trim()) else {
        let harmless = !given.contains(['@', '?']);
        return if harmless {
            given.to_owned()
        } else {
            "…".to_owned()
        };
    };
    // Refused only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(api: Api, base: &str) -> (String, String, u16) {
        let endpoint = Endpoint::new(api, base, None).unwrap();
        let host = endpoint.headers[HOST].to_str().unwrap().to_owned();
        (host, endpoint.target.to_string(), endpoint.port)
    }

    #[test]
    fn what_a_server_tells_back_is_shown_without_the_key() {
        for api in [Api::OpenAiChat, Api::AnthropicMessages] {
            let endpoint = Endpoint::new(api, "http://h", Some(Secret::new("sk-1".to_owned())))
                .and_then(|endpoint| endpoint.with_header("x-team", &Secret::new("blue-7".to_owned())))
                .unwrap();
            let told = "no sk-1 of blue-7, sk-1";
            assert_eq!(&*endpoint.without_keys(told.into()), "no [key] of [key], [key]");
            assert_eq!(&*endpoint.without_keys("overloaded".into()), "overloaded");
        }
    }

    #[test]
    fn a_base_url_is_completed() {
        let cases = [
            (
                Api::OpenAiChat,
                "http://h:8000/v1",
                "h:8000",
                "/v1/chat/completions",
                8000,
            ),
            (
                Api::OpenAiChat,
                " https://h/v1/ ",
                "h",
                "/v1/chat/completions",
                443,
            ),
            (
                Api::OpenAiCompletions,
                "http://[::1]:80/v1",
                "[::1]",
                "/v1/completions",
                80,
            ),
            (Api::OpenAiChat, "http://h", "h", "/chat/completions", 80),
            (
                Api::AnthropicMessages,
                ANTHROPIC_BASE_URL,
                "api.anthropic.com",
                "/v1/messages",
                443,
            ),
            (
                Api::OpenAiChat,
                "https://h/a?v=1#x",
                "h",
                "/a/chat/completions?v=1",
                443,
            ),
        ];
        for (api, base, host, path, port) in cases {
            assert_eq!(
                target(api, base),
                (host.to_owned(), path.to_owned(), port),
                "{base}"
            );
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_its_password() {
        let cases = [
            ("localhost:8000/v1", "its scheme is neither http nor https"),
            ("", "it is no URL"),
            ("http://", "it is no URL"),
            ("ftp://h/", "its scheme is neither http nor https"),
            ("http://me:hunter2@h/", "it holds a user or password"),
            ("//me:hunter2@h/", "it is no URL"),
        ];
        for (base, reason) in cases {
            let refused = Endpoint::new(Api::OpenAiChat, base, None)
                .unwrap_err()
                .to_string();
            assert!(refused.contains(reason), "{base}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn keys_are_sent_as_the_api_wants_them_and_never_shown() {
        let secret = || Some(Secret::new("sk-hunter2".to_owned()));
        let openai = Endpoint::new(Api::OpenAiChat, "http://h/v1", secret()).unwrap();
        assert_eq!(openai.headers[AUTHORIZATION], "Bearer sk-hunter2");
        let anthropic = Endpoint::new(Api::AnthropicMessages, "http://h", secret())
            .unwrap()
            .with_header("X-Proxy-Key", &Secret::new("hunter2".to_owned()))
            .unwrap();
        assert_eq!(anthropic.headers["x-api-key"], "sk-hunter2");
        assert_eq!(anthropic.headers["anthropic-version"], ANTHROPIC_VERSION);
        assert!(!anthropic.headers.contains_key(AUTHORIZATION));
        for endpoint in [openai, anthropic] {
            assert!(!format!("{endpoint:?} {:?}", endpoint.headers).contains("hunter2"));
        }
        let broken = Some(Secret::new("hunter2\n".to_owned()));
        let refused = Endpoint::new(Api::OpenAiChat, "http://h/v1", broken).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the value of header authorization: expected visible ASCII characters"
        );
        assert!(!format!("{refused:?}").contains("hunter2"));
    }

    #[test]
    fn a_root_that_is_no_certificate_is_refused() {
        let endpoint = Endpoint::new(Api::OpenAiChat, "https://h/v1", None).unwrap();
        let refused = endpoint.with_roots(&[b"-----BEGIN".to_vec()]).unwrap_err();
        assert!(matches!(refused, EndpointError::Root(_)));
    }
}
