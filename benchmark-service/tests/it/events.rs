use reqwest::{Method, Response};
use serde_json::Value;
use test_patience::soon;

use crate::app::{TestApp, batch};

/// Reads the stream until the text since the last call contains `holds`.
async fn read_until(stream: &mut Response, holds: &str) -> String {
    let mut text = String::new();
    while !text.contains(holds) {
        let chunk = soon("an event", stream.chunk()).await.unwrap();
        let chunk = chunk.unwrap_or_else(|| panic!("{holds} before the end of {text}"));
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_sent_and_sent_again_to_a_client_that_missed_it() {
    let app = TestApp::start().await;
    let mut stream = app.get("/api/v1/events").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    read_until(&mut stream, ": rankings\n\n").await;

    app.publish(batch("GPT-4o", "ttft", &[1.0]).to_string()).await;
    let told = read_until(&mut stream, "\nid: ").await;
    assert!(told.starts_with("event: ranking\n"), "{told}");
    let data = told.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&data["metric"], &data["source"]),
        (&"ttft".into(), &"simulated".into())
    );
    let id: u64 = told
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .parse()
        .unwrap();

    let missed = app
        .request(Method::GET, "/api/v1/events")
        .header("Last-Event-ID", id - 1);
    let mut missed = missed.send().await.unwrap();
    assert!(
        read_until(&mut missed, "\nid: ")
            .await
            .contains("\"metric\":\"ttft\"")
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_service() {
    let app = TestApp::start().await;
    let mut stream = app.get("/api/v1/events").await;
    read_until(&mut stream, ": rankings\n\n").await;
    assert_eq!(app.metric_value("llm_bench_event_streams").await, 1.0);
    app.end().await;
    // A stream that delays the end is cut off, and breaks off for the client.
    assert!(soon("the stream's end", stream.chunk()).await.unwrap().is_none());
}
