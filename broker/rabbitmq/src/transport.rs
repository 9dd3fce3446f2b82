//! The bytes between this process and the broker: TCP, and for `amqps` TLS on it.
//!
//! lapin's own TLS can also read client certificates from PKCS#12 files, which costs some forty crates. Nothing here
//! configures such a certificate, so lapin is built without TLS and given a stream that has it already.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_rs::{Tokio, traits::Reactor, util::RuntimeParts};
use futures::{
    Stream, future,
    io::{AsyncRead, AsyncWrite},
};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::compat::TokioAsyncReadCompatExt;

/// What lapin reads from and writes to.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// lapin's runtime: tokio, with streams that may be TLS.
pub(crate) type Runtime = async_rs::Runtime<RuntimeParts<Tokio, TokioReactor>>;

/// The tokio runtime that this is called in.
pub(crate) fn runtime() -> Runtime {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), TokioReactor(tokio)))
}

/// A connection to the broker's address, without Nagle's delay of the small frames that settle deliveries.
pub(crate) async fn connect(uri: &AMQPUri) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The connection as the URI's scheme wants it: as it is, or with TLS.
pub(crate) async fn secure(uri: &AMQPUri, stream: TcpStream) -> io::Result<Box<dyn ByteStream>> {
    match uri.scheme {
        AMQPScheme::AMQP => Ok(Box::new(stream.compat())),
        AMQPScheme::AMQPS => {
            let name = ServerName::try_from(uri.authority.host.clone()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(tls()?).connect(name, stream).await?;
            Ok(Box::new(stream.compat()))
        }
    }
}

/// Trusts the platform's certificate authorities, or those of `SSL_CERT_FILE`. Those that cannot be read are left out:
/// a broker whose authority is missing then fails with a reason.
fn tls() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// tokio's timers and sockets, with [`ByteStream`] as the type of a connection.
#[derive(Debug, Clone)]
pub(crate) struct TokioReactor(Tokio);

impl Reactor for TokioReactor {
    type TcpStream = Box<dyn ByteStream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// For sockets that were opened elsewhere; lapin registers none, and [`connect`] opens its own. (The trait's
    /// whole bound cannot be named outside of async-rs, so that this cannot be passed on.)
    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    /// Refused, because such a connection would be without TLS whatever the URI says. [`connect`] and [`secure`] make one.
    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
