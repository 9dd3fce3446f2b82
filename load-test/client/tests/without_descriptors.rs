//! A process that may open no more files: alone in its process, as the limit is the process's.

use std::{fs::File, net::TcpListener};

use llm_client::{Api, Client, Dropped, Endpoint, Limits, Outcome};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let endpoint = Endpoint::new(Api::OpenAiChat, &base, None).unwrap();
    let client = Client::new(endpoint, Limits::default());

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(!taken.is_empty());

    let exchange = client.exchange("{}".into(), &mut ()).await;
    assert!(
        matches!(exchange.outcome, Outcome::Dropped(Dropped::Descriptors(_))),
        "{exchange:?}"
    );
    assert_eq!((exchange.connected, exchange.sent), (None, None));
    assert_eq!(client.open_connections(), 0);
}
