//! Blocking HTTP requests that are not part of the load: downloads, MLflow, publishing.
//!
//! With ureq, because reqwest without aws-lc requires every program that has any reqwest client to install a TLS provider first.

use std::{io::Read as _, sync::Arc, time::Duration};

use tokio_rustls::rustls::crypto::ring;
use ureq::{
    Agent,
    http::{HeaderName, Method, Request, Response},
    tls::{Certificate, RootCerts, TlsConfig},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that trusts the platform's certificate authorities (`SSL_CERT_FILE` replaces them). A status other than 2xx is not an
/// error. Redirects are not followed, so that credentials are sent to no other host. `timeout` limits a whole request.
#[must_use]
pub fn agent(timeout: Duration) -> Agent {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots = roots
        .iter()
        .map(|root| Certificate::from_der(root.as_ref()).to_owned());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .user_agent(concat!("llm-bench/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

/// Sends a request; a body is sent with `POST` or `PUT` only. Of the answer's body at most `longest` bytes are read.
pub(crate) fn send(
    agent: &Agent,
    method: Method,
    url: &str,
    headers: impl IntoIterator<Item = (HeaderName, String)>,
    body: Option<Vec<u8>>,
    longest: u64,
) -> Result<Response<Vec<u8>>, ureq::Error> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = match body {
        None => agent.run(request.body(())?)?,
        Some(body) => agent.run(request.body(body)?)?,
    };
    let (parts, answer) = answer.into_parts();
    let mut body = Vec::new();
    answer.into_reader().take(longest).read_to_end(&mut body)?;
    Ok(Response::from_parts(parts, body))
}
