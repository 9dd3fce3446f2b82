//! A client whose process may open no more files. The test has a process of its own, because the limit applies to the process.

use std::{fs::File, net::TcpListener};

use llm_client::{Api, Client, Endpoint, Limits, MissingResource, Outcome};
use rlimit::Resource;

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let endpoint = Endpoint::new(Api::OpenAiChat, &base, None).unwrap();
    let client = Client::new(endpoint, Limits::default());

    let (_, hard) = Resource::NOFILE.get().unwrap();
    Resource::NOFILE.set(64, hard).unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty());

    let exchange = client.exchange("{}".into(), &mut ()).await;
    assert!(
        matches!(
            exchange.outcome,
            Outcome::Dropped(MissingResource::Descriptors(_))
        ),
        "{exchange:?}"
    );
    assert_eq!((exchange.connected, exchange.sent), (None, None));
    assert_eq!(client.open_connections(), 0);
}
