use std::{fmt, io, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

/// The only protocol that this client speaks.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The TLS configuration for one server. Shared by all threads, as it holds the platform's certificates.
#[derive(Clone)]
pub(crate) struct Tls {
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the platform's certificate authorities. Unreadable ones are left out; a connection to a server that needs one of them fails
    /// with a reason.
    pub(crate) fn new(name: ServerName<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let roots = Arc::new(roots);
        let config = config(&roots);
        Self { name, roots, config }
    }

    pub(crate) fn trust<'a>(
        &mut self,
        authorities: impl Iterator<Item = CertificateDer<'a>>,
    ) -> Result<(), rustls::Error> {
        let roots = Arc::make_mut(&mut self.roots);
        for authority in authorities {
            roots.add(authority.into_owned())?;
        }
        self.config = config(&self.roots);
        Ok(())
    }

    pub(crate) async fn connect<S>(&self, socket: S) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        TlsConnector::from(Arc::clone(&self.config))
            .connect(self.name.clone(), socket)
            .await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Names the crypto provider, so that no process-wide provider has to be installed.
fn config(roots: &Arc<RootCertStore>) -> Arc<ClientConfig> {
    #[expect(clippy::expect_used, reason = "cannot fail: ring supports TLS 1.2 and 1.3")]
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions");
    let mut config = builder
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Arc::new(config)
}
