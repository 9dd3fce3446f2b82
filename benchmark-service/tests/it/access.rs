use reqwest::Method;
use storage::{ApiKeys, Scope};

use crate::app::{ADMIN, Options, TestApp, now, problem};

/// Every route with the scope it needs; `None`: open.
const ROUTES: &[(&str, &str, Option<Scope>)] = &[
    ("GET", "/", None),
    ("GET", "/status", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
    ("GET", "/docs/", None),
    ("GET", "/redoc", None),
    ("GET", "/redoc/redoc.standalone.js", None),
    ("GET", "/openapi.json", None),
    ("GET", "/api/v1/benchmarks/rankings", Some(Scope::Read)),
    ("GET", "/api/v1/benchmarks/rankings/ttft", Some(Scope::Read)),
    ("GET", "/api/v1/rankings/ttft", Some(Scope::Read)),
    ("GET", "/ranking/ttft", Some(Scope::Read)),
    ("GET", "/api/v1/benchmark/ttft", Some(Scope::Read)),
    ("GET", "/api/v1/history", Some(Scope::Read)),
    ("GET", "/api/v1/batches", Some(Scope::Read)),
    ("GET", "/api/v1/batches/x", Some(Scope::Read)),
    ("GET", "/api/v1/llms", Some(Scope::Read)),
    ("GET", "/api/v1/metrics", Some(Scope::Read)),
    ("POST", "/api/v1/batches", Some(Scope::Write)),
    ("POST", "/api/v1/llms", Some(Scope::Admin)),
    ("PATCH", "/api/v1/llms/x", Some(Scope::Admin)),
    ("DELETE", "/api/v1/llms/x", Some(Scope::Admin)),
    ("POST", "/api/v1/metrics", Some(Scope::Admin)),
    ("PATCH", "/api/v1/metrics/x", Some(Scope::Admin)),
    ("DELETE", "/api/v1/metrics/x", Some(Scope::Admin)),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_for_its_scope() {
    let app = TestApp::with(Options::with_keys()).await;
    let keys = [
        (None, None),
        (None, Some("llmb_0123456789abcdef_wrong".to_owned())),
        (Some(Scope::Read), Some(app.key(Scope::Read).await)),
        (Some(Scope::Write), Some(app.key(Scope::Write).await)),
        (Some(Scope::Admin), Some(app.key(Scope::Admin).await)),
        (Some(Scope::Admin), Some(ADMIN.to_owned())),
    ];
    let (_, reader) = keys[2].clone();
    app.eventually("the new keys are known", async |app| {
        let request = app
            .request(Method::GET, "/api/v1/llms")
            .header("api-key", reader.as_deref().unwrap());
        request.send().await.unwrap().status() == 200
    })
    .await;
    for (method, path, needed) in ROUTES {
        for (scope, key) in &keys {
            let mut request = app.request(method.parse().unwrap(), path);
            if let Some(key) = key {
                request = request.header("X-API-KEY", key);
            }
            let response = request.send().await.unwrap();
            let (status, what) = (
                response.status().as_u16(),
                format!("{method} {path} with {scope:?}"),
            );
            match (needed, scope) {
                (Some(_), None) => {
                    assert_eq!(
                        response.headers()["www-authenticate"],
                        "Bearer realm=\"llm-bench\"",
                        "{what}"
                    );
                    problem(response, 401).await;
                }
                (Some(needed), Some(scope)) if scope < needed => {
                    problem(response, 403).await;
                }
                _ => assert!(!matches!(status, 401 | 403 | 500..), "{what}: {status}"),
            }
        }
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_header_carries_a_key_and_a_revoked_key_is_refused() {
    let app = TestApp::with(Options::with_keys()).await;
    let key = app.key(Scope::Read).await;
    let status = async |header: &str, value: String| {
        let request = app
            .request(Method::GET, "/api/v1/benchmarks/rankings")
            .header(header, value);
        request.send().await.unwrap().status().as_u16()
    };
    app.eventually("the new key is known", async |_| {
        status("api-key", key.clone()).await == 200
    })
    .await;
    assert_eq!(status("X-API-KEY", key.clone()).await, 200);
    assert_eq!(status("Authorization", format!("Bearer {key}")).await, 200);
    assert_eq!(status("Authorization", format!("Basic {key}")).await, 401);

    let records = app.storage.api_keys().await.unwrap();
    app.storage.revoke_api_key(&records[0].id, now()).await.unwrap();
    app.eventually("the revocation is noticed", async |_| {
        status("api-key", key.clone()).await == 401
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_reading_does_not_open_writing() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/api/v1/llms").await.status(), 200);
    for path in ["/api/v1/batches", "/api/v1/llms"] {
        problem(app.request(Method::POST, path).send().await.unwrap(), 401).await;
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_over_the_limit_is_told_when_to_come_again() {
    let app = TestApp::with(Options::limited(3)).await;
    let mut refused = None;
    for attempt in 0..20 {
        let forwarded = format!("10.0.0.{attempt}");
        let request = app.request(Method::GET, "/api/v1/benchmarks/rankings");
        let response = request.header("X-Forwarded-For", forwarded).send().await.unwrap();
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("a refusal within 20 requests at 3 a second");
    assert_eq!(refused.headers()["retry-after"], "1");
    problem(refused, 429).await;
    assert_eq!(
        app.get("/healthz").await.status(),
        200,
        "operation is not limited"
    );
    app.end().await;
}
