//! Malicious bodies: too deep, too large, compressed, or of another type than declared.

use reqwest::header;
use serde_json::Value;

use crate::app::{TestApp, problem};

const ROUTES: [&str; 2] = ["/api/v1/batches", "/api/v1/llms"];

/// Asserts that the body is refused with a client error; returns the problem.
async fn refused(app: &TestApp, path: &str, body: impl Into<reqwest::Body>, what: &str) -> Value {
    let response = app.post(path, body).send().await.unwrap();
    let status = response.status().as_u16();
    assert!(matches!(status, 400 | 413 | 422), "{path}, {what}: {status}");
    problem(response, status).await
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_is_refused() {
    const DEEP: usize = 100_000;
    let app = TestApp::start().await;
    let batch = |values: &str| {
        format!(r#"{{"llm_name":"a","metric":"ttft","timestamp":"2026-01-01T00:00:00Z","values":{values}}}"#)
    };
    for (what, body) in [
        ("open arrays", "[".repeat(DEEP)),
        ("closed arrays", "[".repeat(DEEP) + &"]".repeat(DEEP)),
        ("objects", r#"{"a":"#.repeat(DEEP)),
        ("values", batch(&"[".repeat(DEEP))),
        (
            "an unknown field",
            batch(&format!(r#"[1],"unknown":{}"#, "[".repeat(DEEP))),
        ),
    ] {
        for path in ROUTES {
            refused(&app, path, body.clone(), what).await;
        }
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_databases_or_terminals_cannot_handle_is_refused() {
    let app = TestApp::start().await;
    for (what, name) in [
        ("NUL", r#""a\u0000b""#.as_bytes()),
        ("a raw NUL", b"\"a\0b\""),
        ("a lone surrogate", br#""\ud800""#),
        ("the second surrogate alone", br#""\udc00x""#),
        ("invalid UTF-8", b"\"\xff\xfe\""),
        ("UTF-8 of a surrogate", b"\"\xed\xa0\x80\""),
        ("an overlong form", b"\"\xc0\x80\""),
        ("an escape sequence", br#""\u001b[31m""#),
        ("C1 control characters", "\"a\u{9b}b\"".as_bytes()),
        (
            "201 characters",
            format!("\"{}\"", "x".repeat(201)).leak().as_bytes(),
        ),
    ] {
        let llm = [br#"{"creator":"c","name":"#, name, b"}"].concat();
        refused(&app, "/api/v1/llms", llm, what).await;
        let batch = [
            br#"{"metric":"ttft","values":[1],"timestamp":"2026-01-01T00:00:00Z","llm_name":"#,
            name,
            b"}",
        ]
        .concat();
        refused(&app, "/api/v1/batches", batch, what).await;
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_out_of_range_and_repeated_fields_are_refused() {
    let app = TestApp::start().await;
    let rest = r#""llm_name":"a","metric":"ttft","timestamp":"2026-01-01T00:00:00Z""#;
    let digits = "9".repeat(100_000);
    for (what, body) in [
        ("1e400", format!(r#"{{{rest},"values":[1e400]}}"#)),
        (
            "a hundred thousand digits",
            format!(r#"{{{rest},"values":[{digits}]}}"#),
        ),
        (
            "an exponent of as many",
            format!(r#"{{{rest},"values":[1e{digits}]}}"#),
        ),
        ("NaN", format!(r#"{{{rest},"values":[NaN]}}"#)),
        ("null", format!(r#"{{{rest},"values":[null]}}"#)),
        (
            "a seed of 2^64",
            format!(r#"{{{rest},"values":[1],"seed":18446744073709551616}}"#),
        ),
        ("a negative seed", format!(r#"{{{rest},"values":[1],"seed":-1}}"#)),
        ("values twice", format!(r#"{{{rest},"values":[1],"values":[2]}}"#)),
        (
            "a name twice",
            format!(r#"{{{rest},"llm_name":"b","values":[1]}}"#),
        ),
        ("two documents", format!(r#"{{{rest},"values":[1]}} {{}}"#)),
    ] {
        refused(&app, "/api/v1/batches", body, what).await;
    }
    let metric = |bound: &str| format!(r#"{{"title":"m","lower_bound":0,"upper_bound":{bound}}}"#);
    for bound in ["1e400", "NaN", "Infinity", "null", "1e-400"] {
        refused(&app, "/api/v1/metrics", metric(bound), bound).await;
    }
    app.end().await;
}

/// The service decompresses no body, so a decompression bomb has no effect.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_not_decompressed() {
    let app = TestApp::start().await;
    for encoding in [
        "gzip",
        "deflate",
        "br",
        "zstd",
        "gzip, gzip",
        "identity, gzip",
        "x",
    ] {
        for path in ROUTES {
            let request = app
                .post(path, GZIP_BOMB)
                .header(header::CONTENT_ENCODING, encoding);
            let response = request.send().await.unwrap();
            problem(response, 415).await;
        }
    }
    // Also without the header Content-Encoding.
    refused(
        &app,
        "/api/v1/batches",
        GZIP_BOMB,
        "a bomb that claims to be JSON",
    )
    .await;
    app.end().await;
}

/// 200 000 zeros, packed with gzip.
const GZIP_BOMB: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00, 0x00,
    0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x06, 0x7f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0xd7, 0x00,
    0x7b, 0x58, 0xe0, 0x5c, 0x40, 0x0d, 0x03, 0x00,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_the_limit_is_not_read_to_its_end() {
    let app = TestApp::start().await;
    for (path, limit) in [("/api/v1/llms", 64 * 1024), ("/api/v1/batches", 16 * 1024 * 1024)] {
        const CHUNK: usize = 64 * 1024;
        let chunks = limit / CHUNK + 1;
        let body = futures::stream::iter((0..chunks).map(|_| Ok::<_, std::io::Error>(vec![b' '; CHUNK])));
        let response = app
            .post(path, reqwest::Body::wrap_stream(body))
            .send()
            .await
            .unwrap();
        problem(response, 413).await;
    }
    app.end().await;
}
