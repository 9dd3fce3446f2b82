use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::HOST};
use shared_types::Secret;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use url::Url;

use crate::{Api, Generation, wire::Tls};

/// The address of an API, and the headers of every request. Cheap to clone: make one for all threads.
#[derive(Clone)]
pub struct Endpoint {
    api: Api,
    /// Path and query, as the request line has them.
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) tls: Option<Tls>,
    wants_stream_usage: bool,
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Requests cannot be sent to the base URL.
    #[error("base URL {url:?}: {reason}; expected something like https://host:8000/v1")]
    Url {
        /// The given URL, without user, password and query.
        url: String,
        /// The reason.
        reason: &'static str,
    },
    /// A header's name cannot be sent.
    #[error("header name {name:?}: expected letters, digits and dashes")]
    HeaderName {
        /// The given name.
        name: String,
        /// The reason.
        source: http::header::InvalidHeaderName,
    },
    /// A header's value, or the key, cannot be sent. It is not shown, as it may be secret.
    #[error("the value of header {name}: expected visible ASCII characters")]
    HeaderValue {
        /// The header.
        name: HeaderName,
        /// The reason.
        source: http::header::InvalidHeaderValue,
    },
    /// A certificate authority cannot be read.
    #[error("a certificate authority that is no certificate (expected X.509 in DER)")]
    Root(#[source] tokio_rustls::rustls::Error),
}

impl Endpoint {
    /// The endpoint of `api` below `base_url` (http or https, with or without a slash at the end), with `key` in the header that the
    /// API defines.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, or the key cannot be a header.
    pub fn new(api: Api, base_url: &str, key: Option<Secret>) -> Result<Self, EndpointError> {
        let definition = api.definition();
        let address = Address::parse(definition.path, base_url)?;
        let mut endpoint = Self {
            api,
            target: address.target,
            headers: HeaderMap::new(),
            host: address.host,
            port: address.port,
            tls: address.server_name.map(Tls::new),
            wants_stream_usage: true,
        };
        endpoint.headers.insert(HOST, address.authority);
        let headers = [
            ("content-type", "application/json"),
            ("user-agent", concat!("llm-bench/", env!("CARGO_PKG_VERSION"))),
        ];
        for (name, value) in headers.iter().chain(definition.headers) {
            endpoint.headers.insert(*name, HeaderValue::from_static(value));
        }
        if let Some(key) = key {
            let (name, prefix) = definition.key_header;
            endpoint.insert(
                HeaderName::from_static(name),
                &format!("{prefix}{}", key.expose()),
            )?;
        }
        Ok(endpoint)
    }

    /// Trusts these certificate authorities (DER) in addition to the platform's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` replace.
    /// Without effect for http.
    ///
    /// # Errors
    ///
    /// When one of them is not a certificate.
    pub fn with_roots(mut self, roots: &[Vec<u8>]) -> Result<Self, EndpointError> {
        if let Some(tls) = &mut self.tls {
            let roots = roots.iter().map(|root| CertificateDer::from(root.as_slice()));
            tls.trust(roots).map_err(EndpointError::Root)?;
        }
        Ok(self)
    }

    /// Adds a header to every request, or replaces the one of that name.
    ///
    /// # Errors
    ///
    /// When the header is invalid.
    pub fn with_header(mut self, name: &str, value: &Secret) -> Result<Self, EndpointError> {
        let name = HeaderName::try_from(name).map_err(|source| EndpointError::HeaderName {
            name: name.to_owned(),
            source,
        })?;
        self.insert(name, value.expose())?;
        Ok(self)
    }

    /// Does not ask for the usage in OpenAI's streams (`stream_options.include_usage`), as some servers refuse the field.
    #[must_use]
    pub fn without_stream_usage(mut self) -> Self {
        self.wants_stream_usage = false;
        self
    }

    /// The URL of requests, such as `https://api.openai.com:443/v1/chat/completions`, without a query, which may hold a key.
    #[must_use]
    pub fn place(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.target.path())
    }

    /// The API of this endpoint.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api
    }

    /// `text` without the keys of the headers, for text of the server, which may repeat a key that it refuses.
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

    /// The body of a request, to be sent by [`Client::exchange`](crate::Client::exchange).
    #[must_use]
    pub fn encode(&self, generation: &Generation<'_>) -> Bytes {
        self.api.definition().encode(generation, self.wants_stream_usage)
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

/// `text` without a beginning of `key` at its end: texts are shortened before they are shown, which may cut a key in two.
fn without_cut_key(text: Box<str>, key: &str) -> Box<str> {
    /// Shorter beginnings of a key do not reveal it.
    const MIN_LENGTH: usize = 4;
    let cut = (MIN_LENGTH..key.len())
        .rev()
        .filter_map(|length| key.get(..length))
        .find(|beginning| text.ends_with(beginning));
    match cut {
        Some(beginning) => format!("{}[key]", &text[..text.len() - beginning.len()]).into(),
        None => text,
    }
}

impl fmt::Debug for Endpoint {
    /// Omits the headers, any of which may hold a key.
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

/// The parts of a base URL and an API's path.
struct Address {
    target: Uri,
    authority: HeaderValue,
    host: Arc<str>,
    port: u16,
    /// For https, the name that the server's certificate must have.
    server_name: Option<ServerName<'static>>,
}

impl Address {
    fn parse(api_path: &str, base_url: &str) -> Result<Self, EndpointError> {
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
        let path = format!("{}/{}", url.path().trim_end_matches('/'), api_path);
        url.set_path(&path);
        let target = &url[url::Position::BeforePath..];
        let target = Uri::try_from(target).map_err(|_| refuse("its path cannot be requested"))?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let authority =
            HeaderValue::try_from(authority).map_err(|_| refuse("its host cannot be a header"))?;
        let host = url.host_str().ok_or_else(|| refuse("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let server_name = if is_https {
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
            server_name,
        })
    }
}

/// The parts of a URL that may be shown. Text that is not a URL is hidden when it might contain a password.
fn without_secrets(given: &str) -> String {
    let Ok(mut url) = Url::parse(given.trim()) else {
        return if !given.contains(['@', '?']) {
            given.to_owned()
        } else {
            "…".to_owned()
        };
    };
    // Both calls fail only for URLs without a host, which have neither user nor password.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn target(api: Api, base: &str) -> (String, String, u16) {
        let endpoint = Endpoint::new(api, base, None).unwrap();
        let host = endpoint.headers[HOST].to_str().unwrap().to_owned();
        (host, endpoint.target.to_string(), endpoint.port)
    }

    #[test]
    fn text_of_a_server_is_shown_without_the_key() {
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
    fn the_apis_path_is_added_to_the_base_url() {
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
                Api::AnthropicMessages.provider().base_url,
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
    fn an_invalid_base_url_is_refused_without_its_password() {
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
    fn keys_are_sent_in_the_apis_header_and_never_shown() {
        let secret = || Some(Secret::new("sk-hunter2".to_owned()));
        let openai = Endpoint::new(Api::OpenAiChat, "http://h/v1", secret()).unwrap();
        assert_eq!(openai.headers[AUTHORIZATION], "Bearer sk-hunter2");
        let anthropic = Endpoint::new(Api::AnthropicMessages, "http://h", secret())
            .unwrap()
            .with_header("X-Proxy-Key", &Secret::new("hunter2".to_owned()))
            .unwrap();
        assert_eq!(anthropic.headers["x-api-key"], "sk-hunter2");
        assert_eq!(anthropic.headers["anthropic-version"], "2023-06-01");
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
    fn an_invalid_certificate_is_refused() {
        let endpoint = Endpoint::new(Api::OpenAiChat, "https://h/v1", None).unwrap();
        let refused = endpoint.with_roots(&[b"-----BEGIN".to_vec()]).unwrap_err();
        assert!(matches!(refused, EndpointError::Root(_)));
    }
}
