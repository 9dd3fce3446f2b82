//! Every route of the OpenAPI document, with every kind of key in every header, against one table.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use reqwest::{Method, RequestBuilder, Response};
use storage::Scope;

use crate::app::{ADMIN, Options, TestApp, now, problem};

/// The key that a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Key(Scope),
}
use Needs::{Key, Nothing};

/// The method and the path of each route, the key that it needs, and the status of a request that is let in. In these
/// requests `{metric}` is `ttft`, every other parameter is unknown or missing, and there is no body, so that no request
/// changes anything.
const TABLE: &[(&str, &str, Needs, u16)] = &[
    ("GET", "/status", Nothing, 200),
    ("GET", "/healthz", Nothing, 200),
    ("GET", "/readyz", Nothing, 200),
    ("GET", "/servingz", Nothing, 200),
    ("GET", "/metrics", Nothing, 200),
    ("GET", "/openapi.json", Nothing, 200),
    ("GET", "/api/v1/benchmarks/rankings", Key(Scope::Read), 200),
    (
        "GET",
        "/api/v1/benchmarks/rankings/{metric}",
        Key(Scope::Read),
        200,
    ),
    ("GET", "/api/v1/rankings/{metric}", Key(Scope::Read), 200),
    ("GET", "/ranking/{metric}", Key(Scope::Read), 200),
    ("GET", "/api/v1/benchmark/{metric}", Key(Scope::Read), 200),
    ("GET", "/api/v1/events", Key(Scope::Read), 200),
    ("GET", "/api/v1/history", Key(Scope::Read), 400),
    ("GET", "/api/v1/batches", Key(Scope::Read), 200),
    ("GET", "/api/v1/batches/{id}", Key(Scope::Read), 400),
    ("GET", "/api/v1/llms", Key(Scope::Read), 200),
    ("GET", "/api/v1/metrics", Key(Scope::Read), 200),
    ("POST", "/api/v1/batches", Key(Scope::Write), 415),
    ("POST", "/api/v1/llms", Key(Scope::Admin), 415),
    ("PATCH", "/api/v1/llms/{id}", Key(Scope::Admin), 400),
    ("DELETE", "/api/v1/llms/{id}", Key(Scope::Admin), 400),
    ("POST", "/api/v1/metrics", Key(Scope::Admin), 415),
    ("PATCH", "/api/v1/metrics/{id}", Key(Scope::Admin), 400),
    ("DELETE", "/api/v1/metrics/{id}", Key(Scope::Admin), 400),
];

/// The pages for people, which are not in the document and need no key.
const PAGES: &[&str] = &["/", "/docs/", "/redoc", "/redoc/redoc.standalone.js"];

/// The headers in which a key can be sent, with the prefix of the value.
const HEADERS: &[(&str, &str)] = &[("api-key", ""), ("X-API-KEY", ""), ("Authorization", "Bearer ")];

/// A caller, its key, and the scope of the key; `None` if the key is not accepted.
struct Caller {
    who: &'static str,
    key: Option<String>,
    scope: Option<Scope>,
}

async fn callers(app: &TestApp) -> Vec<Caller> {
    let expired = app
        .key_with(Scope::Admin, |record| record.expires_at = Some(now()))
        .await;
    let revoked = app
        .key_with(Scope::Admin, |record| record.revoked_at = Some(now()))
        .await;
    // Not expired at `now()`, and the clock of the test does not advance.
    let expiring = app
        .key_with(Scope::Admin, |record| {
            record.expires_at = Some(now() + TimeDelta::microseconds(1));
        })
        .await;
    let (read, write, admin) = (
        app.key(Scope::Read).await,
        app.key(Scope::Write).await,
        app.key(Scope::Admin).await,
    );
    let (id_and_more, _) = admin.rsplit_once('_').unwrap();
    let wrong_secret = format!("{id_and_more}_{}", "0".repeat(64));
    let caller = |who, key: &str, scope| Caller {
        who,
        key: Some(key.to_owned()),
        scope,
    };
    vec![
        Caller {
            who: "nobody",
            key: None,
            scope: None,
        },
        caller("an empty key", "", None),
        caller("what is no key", "llmb_0123456789abcdef_wrong", None),
        caller("another secret", &wrong_secret, None),
        caller("the id alone", id_and_more, None),
        caller("an expired key", &expired, None),
        caller("a revoked key", &revoked, None),
        caller("a reader", &read, Some(Scope::Read)),
        caller("a writer", &write, Some(Scope::Write)),
        caller("an administrator", &admin, Some(Scope::Admin)),
        caller("an administrator for a moment", &expiring, Some(Scope::Admin)),
        caller("the bootstrap key", ADMIN, Some(Scope::Admin)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_asks_every_caller_for_its_scope() {
    let app = TestApp::with(Options::with_keys()).await;
    assert_complete(&app).await;
    let callers = callers(&app).await;
    let last = callers.iter().rev().nth(1).unwrap();
    app.until_key_is_accepted(last.key.as_deref().unwrap()).await;
    for (method, path, needs, let_in) in TABLE {
        let example = path.replace("{metric}", "ttft").replace("{id}", "x");
        for caller in &callers {
            for request in requests(&app, method, &example, caller) {
                let what = format!("{method} {path} by {}", caller.who);
                check(
                    request.send().await.unwrap(),
                    *needs,
                    caller.scope,
                    *let_in,
                    &what,
                )
                .await;
            }
        }
    }
    for page in PAGES {
        assert_eq!(app.get(page).await.status(), 200, "{page}");
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_reading_does_not_open_writing() {
    let app = TestApp::start().await;
    for (method, path, needs, _) in TABLE {
        let example = path.replace("{metric}", "ttft").replace("{id}", "x");
        let status = app
            .request(method.parse().unwrap(), &example)
            .send()
            .await
            .unwrap()
            .status();
        let closed = matches!(needs, Key(Scope::Write | Scope::Admin));
        assert_eq!(status == 401, closed, "{method} {path}: {status}");
    }
    app.end().await;
}

/// The table has a row for every route of the document, and no other.
async fn assert_complete(app: &TestApp) {
    let document = app.get_json("/openapi.json").await;
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let in_table: BTreeSet<(String, String)> = TABLE
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(in_table, documented, "the table and the document differ");
}

/// The same request with the key in each of the headers.
fn requests(app: &TestApp, method: &str, path: &str, caller: &Caller) -> Vec<RequestBuilder> {
    let method: Method = method.parse().unwrap();
    let plain = || app.request(method.clone(), path);
    match &caller.key {
        None => vec![plain()],
        Some(key) => HEADERS
            .iter()
            .map(|(name, scheme)| plain().header(*name, format!("{scheme}{key}")))
            .collect(),
    }
}

async fn check(response: Response, needs: Needs, scope: Option<Scope>, let_in: u16, what: &str) {
    match (needs, scope) {
        (Key(_), None) => {
            let challenge = response.headers().get("www-authenticate");
            assert_eq!(challenge.expect(what), "Bearer realm=\"llm-bench\"", "{what}");
            problem(response, 401).await;
        }
        (Key(needed), Some(scope)) if scope < needed => {
            problem(response, 403).await;
        }
        (Nothing, _) | (Key(_), Some(_)) => assert_eq!(response.status(), let_in, "{what}"),
    }
}
