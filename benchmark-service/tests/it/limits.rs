//! The limit on each caller's requests.

use futures::future::join_all;
use reqwest::{Method, Response};
use storage::Scope;
use test_patience::{found, until};

use crate::app::{Options, TestApp, problem};

const LIMIT: u32 = 3;
/// The number of concurrent requests that exceeds the limit.
const BURST: u32 = 40;

async fn ask(app: &TestApp, headers: &[(&str, String)]) -> Response {
    let request = app.request(Method::GET, "/api/v1/benchmarks/rankings");
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, value));
    request.send().await.unwrap()
}

/// The first refusal for want of patience.
async fn burst(app: &TestApp, headers: impl Fn(u32) -> Vec<(&'static str, String)>) -> Response {
    // On a busy machine the requests of a burst may be spread over so long a time that none is over the limit.
    found("a refusal", async || {
        let answers = join_all((0..BURST).map(async |attempt| ask(app, &headers(attempt)).await)).await;
        answers.into_iter().find(|answer| answer.status() == 429)
    })
    .await
}

async fn assert_told_when_to_come_again(refused: Response) {
    assert_eq!(refused.headers()["retry-after"], "1");
    problem(refused, 429).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_make_no_new_caller() {
    let app = TestApp::with(Options::limited(LIMIT)).await;
    let refused = burst(&app, |attempt| {
        let forged = format!("10.0.0.{attempt}");
        vec![
            ("X-Forwarded-For", forged.clone()),
            ("Forwarded", format!("for={forged}")),
            ("X-Real-IP", forged.clone()),
            ("CF-Connecting-IP", forged),
        ]
    })
    .await;
    assert_told_when_to_come_again(refused).await;
    let operation = app.get("/healthz").await;
    assert_eq!(operation.status(), 200, "operation is not limited");
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_own_limit() {
    let app = TestApp::with(Options {
        anonymous_read: false,
        ..Options::limited(LIMIT)
    })
    .await;
    let (busy, calm) = (app.key(Scope::Read).await, app.key(Scope::Read).await);
    until("the new key is known", async || {
        ask(&app, &[("api-key", calm.clone())]).await.status() == 200
    })
    .await;
    let refused = burst(&app, |_| vec![("api-key", busy.clone())]).await;
    assert_told_when_to_come_again(refused).await;
    let other = ask(&app, &[("api-key", calm)]).await;
    assert_eq!(other.status(), 200, "the other key");
    app.end().await;
}

/// Guessing is limited by address, whatever is guessed.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_limited_by_address() {
    let app = TestApp::with(Options {
        anonymous_read: false,
        ..Options::limited(LIMIT)
    })
    .await;
    let refused = burst(&app, |attempt| {
        vec![
            ("api-key", format!("llmb_0123456789abcdef_{attempt:064x}")),
            ("X-Forwarded-For", format!("10.0.0.{attempt}")),
        ]
    })
    .await;
    assert_told_when_to_come_again(refused).await;
    app.end().await;
}
