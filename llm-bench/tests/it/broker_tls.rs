use std::{path::Path, sync::Arc};

use rcgen::generate_simple_self_signed;
use reqwest::Url;
use test_servers::shared_rabbitmq;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject},
    },
};

use crate::process::{program, run};

/// Accepts TLS with this key pair and passes on what it decrypts to the server at `server`.
async fn tls_proxy(certified: &rcgen::CertifiedKey<rcgen::KeyPair>, server: String) -> u16 {
    let key = PrivateKeyDer::from_pem_slice(certified.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// What `llm-bench doctor` says of the broker, trusting these authorities or the platform's.
async fn doctor(directory: &Path, amqp: &str, authorities: Option<&Path>) -> String {
    let mut command = program("llm-bench");
    command
        .arg("doctor")
        .env("DATA_DIR", directory)
        .env("AMQP_URL", amqp);
    if let Some(authorities) = authorities {
        command.env("SSL_CERT_FILE", authorities);
    }
    let output = task::spawn_blocking(|| run(command)).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_by_tls_if_its_certificate_is_trusted() {
    let amqp = shared_rabbitmq().await.create_vhost().await.unwrap();
    let mut url = Url::parse(&amqp).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5672));
    let certified = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("authority.pem");
    std::fs::write(&authority, certified.cert.pem()).unwrap();

    let port = tls_proxy(&certified, server).await;
    url.set_host(Some("localhost")).unwrap();
    url.set_port(Some(port)).unwrap();
    let url = url.as_str().replacen("amqp:", "amqps:", 1);

    let trusted = doctor(directory.path(), &url, Some(&authority)).await;
    assert!(trusted.contains("RabbitMQ"), "{trusted}");
    let unknown = doctor(directory.path(), &url, None).await;
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}
