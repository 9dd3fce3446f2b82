//! HTTP requests beside the load itself: one after the other, blocking.
//!
//! Not reqwest: its TLS without aws-lc asks every program that has a client of its own, TLS or not, to install a crypto
//! provider first.

use std::{sync::Arc, time::Duration};

use tokio_rustls::rustls::crypto::ring;
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that trusts the platform's certificate authorities (`SSL_CERT_FILE` replaces them). An answer of any status is an
/// answer, and redirects are not followed: credentials are for who was asked, not for whom it points to. `timeout` is for a
/// whole request.
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
