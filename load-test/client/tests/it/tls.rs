//! TLS with a server that has a self-signed certificate.

use std::{net::TcpStream, sync::Arc};

use llm_client::{Api, Client, Endpoint, Outcome, StreamError};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::server::{
    DONE, FINISH, ObservedContent, Peer, Server, assert_ordered, body, limits, script, token,
    until_tokio_has_seen_the_sockets,
};

/// A server with a certificate for `name`, and the certificate.
fn certified(name: &str) -> (Vec<u8>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().to_vec();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.clone())], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (certificate, Arc::new(config))
}

fn session(socket: TcpStream, config: &Arc<ServerConfig>) -> Peer<StreamOwned<ServerConnection, TcpStream>> {
    let session = ServerConnection::new(Arc::clone(config)).unwrap();
    Peer(StreamOwned::new(session, socket))
}

fn endpoint(server: &Server) -> Endpoint {
    let base = format!("https://localhost:{}/v1", server.address.port());
    Endpoint::new(Api::OpenAiChat, &base, None).unwrap()
}

#[tokio::test]
async fn a_stream_over_tls() {
    let (certificate, config) = certified("localhost");
    let server = Server::start(vec![script(move |peer| {
        let mut peer = session(peer.0, &config);
        for _ in 0..2 {
            peer.request();
            peer.stream_head();
            for nth in 0..500 {
                peer.chunk(token(&format!("{nth} ")));
            }
            peer.chunk([FINISH, DONE].concat());
            peer.end_of_chunks();
        }
    })]);
    let client = Client::new(endpoint(&server).with_roots(&[certificate]).unwrap(), limits());
    for nth in 0..2 {
        let mut observed = ObservedContent::default();
        let exchange = client.exchange(body(), &mut observed).await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        assert_eq!(exchange.reused, nth == 1);
        assert_eq!(exchange.content_chunks, 500);
        assert!(observed.answer().ends_with("498 499 "));
        assert_ordered(&exchange);
    }
    server.finish();
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_trusted() {
    let (_, config) = certified("localhost");
    let (other, _) = certified("localhost");
    let (foreign, foreign_config) = certified("elsewhere.example");
    for (root, config) in [(other, config), (foreign, foreign_config)] {
        let server = Server::start(vec![script(move |peer| {
            assert!(session(peer.0, &config).maybe_request().is_none());
        })]);
        let client = Client::new(endpoint(&server).with_roots(&[root]).unwrap(), limits());
        let exchange = client.exchange(body(), &mut ()).await;
        assert!(
            matches!(exchange.outcome, Outcome::StreamError(StreamError::Tls { .. })),
            "{exchange:?}"
        );
        assert_eq!((exchange.sent, exchange.connected), (None, None));
        assert_eq!(client.open_connections(), 0);
        server.finish();
    }
}

/// The server announces the close within TLS, so the idle socket has bytes to read.
#[tokio::test]
async fn an_idle_session_that_was_closed_is_not_used_again() {
    let (certificate, config) = certified("localhost");
    let (closed, is_closed) = std::sync::mpsc::channel();
    let serve_one = |peer: &mut Peer<_>| {
        peer.request();
        peer.answer(
            "200 OK",
            "",
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}"#,
        );
    };
    let other = Arc::clone(&config);
    let server = Server::start(vec![
        script(move |peer| {
            let mut peer = session(peer.0, &config);
            serve_one(&mut peer);
            peer.0.conn.send_close_notify();
            peer.write("");
            peer.0.sock.shutdown(std::net::Shutdown::Write).unwrap();
            closed.send(()).unwrap();
        }),
        script(move |peer| serve_one(&mut session(peer.0, &other))),
    ]);
    let client = Client::new(endpoint(&server).with_roots(&[certificate]).unwrap(), limits());
    let first = client.exchange(body(), &mut ()).await;
    assert!(matches!(first.outcome, Outcome::Ok), "{first:?}");
    is_closed.recv().unwrap();
    until_tokio_has_seen_the_sockets().await;
    let second = client.exchange(body(), &mut ()).await;
    assert!(matches!(second.outcome, Outcome::Ok), "{second:?}");
    assert_eq!((second.reused, second.sent_again), (false, false));
    server.finish();
}
