//! Text that harms databases, brokers, terminals and parsers, in every place where the API takes text: never a failure,
//! and who is refused is told why. Against real servers, since only they say what they cannot store.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use test_patience::until;
use test_servers::{shared_postgres, shared_rabbitmq};

use crate::{
    process::{Process, free_address, program},
    rankings::Api,
};

const KEY: &str = "a-bootstrap-key-of-the-tests";
/// Four bytes in UTF-8, two units in UTF-16.
const FOUR_BYTES: &str = "𝕏";

struct Service {
    api: Api,
    client: Client,
    _process: Process,
}

impl Service {
    async fn start() -> Self {
        let url = format!("http://{}", free_address());
        let mut command = program("benchmark-service");
        command
            .env(
                "DATABASE_URL",
                shared_postgres().await.create_database().await.unwrap(),
            )
            .env("AMQP_URL", shared_rabbitmq().await.create_vhost().await.unwrap())
            .env("HTTP_ADDR", url.trim_start_matches("http://"))
            .env("API_KEY", KEY)
            .env("RATE_LIMIT_PER_SECOND", "0");
        let process = Process::start(command);
        let service = Self {
            api: Api::with_key(&url, KEY),
            client: Client::builder().no_proxy().build().unwrap(),
            _process: process,
        };
        service.until_ready().await;
        service
    }

    async fn until_ready(&self) {
        until("the service is ready", async || {
            self.api.get("/readyz").await.0 == 200
        })
        .await;
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.api.url));
        request.header("X-API-KEY", KEY)
    }

    async fn send(&self, (method, path): (Method, &str), body: Vec<u8>) -> Response {
        let request = self
            .request(method, path)
            .header("Content-Type", "application/json");
        request.body(body).send().await.unwrap()
    }
}

/// An answer, or a refusal that says what was wrong.
async fn judged(response: Response, what: &str) {
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    assert!(status < 500, "{what}: {status} {body}");
    if status >= 400 {
        let problem: Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{what}: {status} {body}"));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.len() > 10, "{what}: {status} {body}");
        let errors = problem["errors"].as_array().unwrap().iter();
        let told = errors
            .filter_map(Value::as_object)
            .flat_map(|error| error.values());
        for text in told.filter_map(Value::as_str).chain([detail]) {
            assert!(!text.contains(char::is_control), "{what}: {text:?}");
        }
    }
}

/// Texts that are strings of JSON, as they go over the wire.
fn literals() -> Vec<Vec<u8>> {
    let raw: [&[u8]; 8] = [
        br#""\u0000""#,
        br#""a\u0000b""#,
        b"\"a\0b\"",
        br#""\ud800""#,
        br#""\udc00\ud800""#,
        b"\"\xff\xfe\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xc0\x80\"",
    ];
    let escaped = texts().into_iter().map(|text| serde_json::to_vec(&text).unwrap());
    raw.into_iter().map(<[u8]>::to_vec).chain(escaped).collect()
}

/// Texts that UTF-8 can encode.
fn texts() -> Vec<String> {
    let mut texts = [
        "",
        " \t\n",
        "a\0b",
        "\u{1b}[31mred\u{1b}[0m",
        "a\u{7f}\u{9b}b",
        "\r\nSet-Cookie: a=b",
        "\u{202e}desrever\u{202c}",
        "\u{200b}\u{feff}\u{2066}",
        "\u{2028}\u{2029}",
        "\u{fffe}\u{ffff}\u{10ffff}",
        "'; DROP TABLE batches; --",
        "\\x00 %00 {} %s $1 \u{1f4a9}",
        "9223372036854775808",
        "../../etc/passwd",
        "null",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(FOUR_BYTES.repeat(200));
    texts.push(FOUR_BYTES.repeat(201));
    // Lower case makes two characters of each.
    texts.push("İ".repeat(200));
    texts.push("e\u{301}".repeat(100));
    texts
}

/// The same bytes in a path or a query, and bytes that are no text at all.
fn percent_encoded() -> Vec<String> {
    let encoded = |text: &String| text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let raw = [
        "%00",
        "%FF%FE",
        "%ED%A0%80",
        "%C0%80",
        "%",
        "%zz",
        "%u0000",
        "+",
        "a%",
    ];
    let texts = texts();
    raw.map(str::to_owned)
        .into_iter()
        .chain(texts.iter().map(encoded))
        .collect()
}

/// A body in which one field holds this literal.
fn with_field(body: &Value, field: &str, literal: &[u8]) -> Vec<u8> {
    const HERE: &str = "\"here\"";
    let mut body = body.clone();
    body[field] = "here".into();
    let text = body.to_string();
    let (before, after) = text.split_once(HERE).unwrap();
    [before.as_bytes(), literal, after.as_bytes()].concat()
}

#[tokio::test]
async fn no_text_in_a_body_makes_the_service_fail() {
    let service = Service::start().await;
    let llm = json!({"name": "By hand", "creator": "nobody"});
    let metric = json!({"title": "by hand", "lower_bound": 0, "upper_bound": 1});
    let batch =
        json!({"llm_name": "GPT-4o", "metric": "ttft", "values": [0.5], "timestamp": "2026-01-01T00:00:00Z"});
    let places = [
        ((Method::POST, "/api/v1/llms"), &llm, &["name", "creator"][..]),
        ((Method::PATCH, "/api/v1/llms/1"), &json!({}), &["creator"]),
        (
            (Method::POST, "/api/v1/metrics"),
            &metric,
            &["title", "unit", "better", "lower_bound"],
        ),
        (
            (Method::PATCH, "/api/v1/metrics/1"),
            &json!({}),
            &["unit", "better"],
        ),
        (
            (Method::POST, "/api/v1/batches"),
            &batch,
            &[
                "id",
                "llm_name",
                "metric",
                "unit",
                "source",
                "run_id",
                "timestamp",
                "schema_version",
                "seed",
            ],
        ),
    ];
    for (route, body, fields) in places {
        for field in fields {
            for literal in literals() {
                let what = format!("{} {}, {field} = {}", route.0, route.1, literal.escape_ascii());
                let sent = with_field(body, field, &literal);
                judged(service.send(route.clone(), sent).await, &what).await;
            }
        }
        for text in texts() {
            let mut sent = body.clone();
            sent[&text] = 1.into();
            let what = format!("{} {} with a field {text:?}", route.0, route.1);
            judged(service.send(route.clone(), sent.to_string().into()).await, &what).await;
        }
    }
    // What was accepted can be read again, here and by every process that starts later.
    for path in ["/api/v1/llms", "/api/v1/metrics", "/api/v1/batches?limit=500"] {
        assert_eq!(service.api.get(path).await.0, 200, "{path}");
    }
    service.until_ready().await;
}

const QUERIES: [(&str, &[&str]); 3] = [
    (
        "/api/v1/batches?",
        &["llm", "metric", "source", "limit", "cursor", "values"],
    ),
    (
        "/api/v1/benchmarks/rankings?",
        &["source", "window", "statistic", "format", "round"],
    ),
    (
        "/api/v1/history?llm=GPT-4o&metric=ttft&",
        &["source", "bucket", "from", "to"],
    ),
];
const PATHS: [&str; 7] = [
    "/api/v1/batches/",
    "/api/v1/rankings/",
    "/api/v1/benchmark/",
    "/api/v1/benchmarks/rankings/",
    "/api/v1/llms/",
    "/ranking/",
    "/docs/",
];

/// Every address that holds this text: in the path, as a parameter, and as the name of one.
fn addresses_with(text: &str) -> Vec<String> {
    let mut addresses: Vec<_> = PATHS.map(|path| format!("{path}{text}")).into();
    for (path, parameters) in QUERIES {
        addresses.push(format!("{path}{text}=1"));
        addresses.extend(parameters.iter().map(|name| format!("{path}{name}={text}")));
    }
    addresses.push(format!("/api/v1/history?metric=ttft&llm={text}"));
    addresses.push(format!("/api/v1/history?llm=GPT-4o&metric={text}"));
    addresses
}

#[tokio::test]
async fn no_text_in_an_address_makes_the_service_fail() {
    let service = Service::start().await;
    for text in percent_encoded() {
        for address in addresses_with(&text) {
            let asked = service.request(Method::GET, &address);
            judged(asked.send().await.unwrap(), &address).await;
        }
        for path in ["/api/v1/llms/", "/api/v1/metrics/"] {
            let address = format!("{path}{text}");
            let deleted = service.request(Method::DELETE, &address);
            judged(deleted.send().await.unwrap(), &address).await;
        }
    }
    service.until_ready().await;
}

#[tokio::test]
async fn no_text_in_a_header_makes_the_service_fail() {
    let service = Service::start().await;
    for value in [
        &b""[..],
        b" ",
        b"\xff\xfe",
        FOUR_BYTES.as_bytes(),
        b"\t",
        &[b'x'; 201],
    ] {
        for name in [
            "Idempotency-Key",
            "api-key",
            "X-API-KEY",
            "Authorization",
            "If-None-Match",
            "Last-Event-ID",
        ] {
            let what = format!("{name}: {}", value.escape_ascii());
            // With a key of its own as well, so that what comes after the key is reached.
            let request = service.request(Method::POST, "/api/v1/batches");
            let sent = request
                .header("Content-Type", "application/json")
                .header(name, value);
            judged(sent.body("[]").send().await.unwrap(), &what).await;
            let alone = service.client.get(format!("{}/api/v1/llms", service.api.url));
            judged(alone.header(name, value).send().await.unwrap(), &what).await;
        }
    }
    service.until_ready().await;
}

/// Times that no database column holds, and cursors made of them.
#[tokio::test]
async fn no_time_makes_the_service_fail() {
    let service = Service::start().await;
    let id = "0".repeat(32);
    let mut addresses = Vec::new();
    for micros in [
        0,
        1,
        u64::MAX,
        1 << 63,
        i64::MAX.cast_unsigned(),
        8_210_266_876_799_999_999,
        9_223_371_331_200_000_000,
    ] {
        addresses.push(format!("/api/v1/batches?cursor={micros:016x}{id}"));
    }
    // The signs that parsers of numbers accept.
    addresses.push(format!("/api/v1/batches?cursor=-7fffffffffffffe{id}"));
    addresses.push(format!("/api/v1/batches?cursor=%2B00000000000000{id}1"));
    let times = [
        "-262143-01-01T00:00:00Z",
        "%2B262142-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:60Z",
    ];
    for time in times {
        for name in ["from", "to"] {
            addresses.push(format!("/api/v1/history?llm=GPT-4o&metric=ttft&{name}={time}"));
        }
    }
    for address in addresses {
        judged(
            service.request(Method::GET, &address).send().await.unwrap(),
            &address,
        )
        .await;
    }
    for time in times {
        let body = json!({"llm_name": "GPT-4o", "metric": "ttft", "values": [0.5], "timestamp": time.replace("%2B", "+")});
        let sent = service
            .send((Method::POST, "/api/v1/batches"), body.to_string().into())
            .await;
        judged(sent, time).await;
    }
    service.until_ready().await;
}

/// Through database, broker and rankings: what is accepted has to arrive.
#[tokio::test]
async fn the_longest_names_go_all_the_way() {
    let service = Service::start().await;
    let longest = FOUR_BYTES.repeat(200);
    let metric = json!({"title": longest, "lower_bound": 0, "upper_bound": 1, "unit": longest});
    let llm = json!({"name": longest, "creator": longest});
    for (path, body) in [("/api/v1/metrics", &metric), ("/api/v1/llms", &llm)] {
        let (status, told) = service.api.post(path, body).await;
        assert_eq!(status, 201, "{told}");
    }
    for name in [longest.as_str(), "\u{202e}desrever", "'; DROP TABLE batches; --"] {
        let batch = json!({
            "llm_name": name, "metric": longest, "unit": longest, "run_id": longest, "values": [0.5],
            "timestamp": "2026-01-01T00:00:00Z",
        });
        let (status, told) = service.api.post("/api/v1/batches", &batch).await;
        assert_eq!(status, 202, "{told}");
    }
    until("all three are ranked", async || {
        service.api.values("source=imported").await == 3
    })
    .await;
    let ranking = service.api.rankings("source=imported").await;
    assert!(ranking[&longest].iter().any(|row| row.llm == longest));
}
