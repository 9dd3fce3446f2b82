use std::sync::atomic::Ordering;

use broker::DeadLetterSelection;
use futures::future::{join, join_all};
use serde_json::json;
use storage::Registry;
use test_patience::until;

use crate::{
    app::{Options, TestApp, batch},
    faulty::Fault,
};

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_and_the_next_message_is_counted() {
    let app = TestApp::start().await;
    let poison = [
        ("not JSON".to_owned(), "expected"),
        ("[]".to_owned(), "found an empty array"),
        (
            batch("GPT-4o", "ttft", &[]).to_string(),
            "values: found an empty array",
        ),
        (
            batch("GPT-4o", "speed", &[1.0]).to_string(),
            "metric: found speed",
        ),
        (
            r#"{"llm_name":"a","metric":"ttft","values":[null],"timestamp":"2026-05-01T12:00:00Z"}"#
                .to_owned(),
            "values[0]",
        ),
    ];
    for (body, _) in &poison {
        app.publish(body.clone()).await;
    }
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    let letters = app.broker.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), poison.len());
    for (letter, (body, reason)) in letters.iter().zip(&poison) {
        assert_eq!(letter.body, body.as_bytes());
        assert!(letter.reason.contains(reason), "{}", letter.reason);
    }
    let rejected = async |reason: &str| {
        app.metric_value(&format!(
            "llm_bench_batches_rejected_total{{reason=\"{reason}\"}}"
        ))
        .await
    };
    assert_eq!(
        (rejected("undecodable").await, rejected("unknown_metric").await),
        (4.0, 1.0)
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_one_refused_batch_is_dead_and_the_others_count_once() {
    let app = TestApp::start().await;
    let message = json!([batch("GPT-4o", "ttft", &[1.0]), batch("GPT-4o", "speed", &[1.0])]);
    app.publish(message.to_string()).await;
    app.until_counted("GPT-4o", "ttft", 1).await;

    let dead = app.broker.dead_letters();
    assert_eq!(dead.list(10).await.unwrap().len(), 1);
    let speed = json!({"title": "speed", "lower_bound": 0, "upper_bound": 1});
    app.send(reqwest::Method::POST, "/api/v1/metrics", &speed).await;
    dead.replay(&DeadLetterSelection::All).await.unwrap();
    until("the replay counts the other", async || {
        app.get("/api/v1/rankings/speed").await.status() == 200
            && app.counted_values("GPT-4o", "speed").await == 1
    })
    .await;
    assert_eq!(app.counted_values("GPT-4o", "ttft").await, 1);
    assert!(dead.list(10).await.unwrap().is_empty());
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_counts_once() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.publish(batch("GPT-4o", "ttft", &[1.0]).to_string()).await;
    }
    app.publish(batch("GPT-4o", "ttft", &[2.0]).to_string()).await;
    app.until_counted("GPT-4o", "ttft", 2).await;
    assert_eq!(app.metric_value("llm_bench_batches_consumed_total").await, 2.0);
    assert_eq!(
        app.metric_value("llm_bench_batches_deduplicated_total").await,
        2.0
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_under_a_counted_id_goes_to_the_dead_letters() {
    let app = TestApp::start().await;
    let mut one = batch("GPT-4o", "ttft", &[1.0]);
    one["id"] = "00000000-0000-7000-8000-000000000001".into();
    app.publish(one.to_string()).await;
    one["values"] = json!([9.0]);
    app.publish(one.to_string()).await;
    app.until_counted("GPT-4o", "ttft", 1).await;
    let ranking = app.get_json("/api/v1/rankings/ttft").await;
    assert_eq!(ranking["data"][0]["mean"], 1.0);
    assert!(
        app.broker.dead_letters().list(1).await.unwrap()[0]
            .reason
            .contains("other content")
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_holds_the_batches_and_the_last_rankings_stay() {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    app.storage.set(Some(Fault::Away));
    let body = batch("GPT-4o", "ttft", &[2.0]).to_string();
    let held = async {
        until("readiness names the consumer and the database", async || {
            let report: serde_json::Value = app.get("/readyz").await.json().await.unwrap();
            report["components"]["consumer"]["state"] == "missing"
                && report["components"]["database"]["state"] == "missing"
        })
        .await;
        assert_eq!(app.get("/readyz").await.status(), 503);
        assert_eq!(app.get("/healthz").await.status(), 200);
        assert_eq!(app.counted_values("GPT-4o", "ttft").await, 1);
        let write = app
            .send(
                reqwest::Method::POST,
                "/api/v1/batches",
                &batch("GPT-4o", "tps", &[1.0]),
            )
            .await;
        assert!(write.headers().contains_key("retry-after"));
        crate::app::problem(write, 503).await;
        assert!(app.metric_value("llm_bench_consumer_holding").await > 0.0);
        app.storage.set(None);
    };
    tokio::join!(app.publish(body), held);
    app.until_counted("GPT-4o", "ttft", 2).await;
    app.until_ready().await;
    assert!(app.has_no_dead_letters().await);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_statistics_are_rebuilt_the_batches_stay_in_the_queue() {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    app.storage.set(Some(Fault::Rebuilds));
    let bodies = ["A", "B", "C"].map(|llm| batch(llm, "ttft", &[1.0]).to_string());
    let [a, b, c] = bodies;
    let rebuilt = async {
        until("readiness says what the consumer waits for", async || {
            let report: serde_json::Value = app.get("/readyz").await.json().await.unwrap();
            report["components"]["consumer"]["reason"] == "waiting until the statistics are rebuilt"
        })
        .await;
        until("all three are in the queue", async || {
            app.broker.info().await.unwrap().queued == 3
        })
        .await;
        assert_eq!(app.metric_value("llm_bench_consumer_held_messages").await, 0.0);
        assert_eq!(app.counted_values("GPT-4o", "ttft").await, 1);
        assert_eq!(app.get("/servingz").await.status(), 200);
        app.storage.set(None);
    };
    tokio::join!(app.publish(a), app.publish(b), app.publish(c), rebuilt);
    assert_eq!(app.metric_value("llm_bench_batches_consumed_total").await, 4.0);
    until("the service is ready again", async || {
        app.get("/readyz").await.status() == 200
    })
    .await;
    assert!(app.broker.dead_letters().list(1).await.unwrap().is_empty());
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_database_refuses_is_isolated_and_the_others_are_counted() {
    // The consumer starts when the database is there, and finds all messages: they share a micro-batch.
    let app = TestApp::launch(Options::default(), Some(Fault::Away));
    let bodies: Vec<String> = ["A", "B", "Cursed", "C", "D"]
        .iter()
        .map(|llm| batch(llm, "ttft", &[1.0]).to_string())
        .collect();
    let begun = async {
        until("all messages are queued", async || {
            app.broker.info().await.unwrap().queued == bodies.len() as u64
        })
        .await;
        app.storage.set(Some(Fault::Refuses("Cursed")));
    };
    join(
        join_all(bodies.iter().map(|body| app.publish(body.clone()))),
        begun,
    )
    .await;
    until("the others are counted", async || {
        let ranking = app.get_json("/api/v1/rankings/ttft").await;
        ranking["data"].as_array().unwrap().len() == 4
    })
    .await;
    let letters = app.broker.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].body, bodies[2].as_bytes());
    assert!(
        letters[0].reason.contains("the test refuses this LLM"),
        "{}",
        letters[0].reason
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_every_write_holds_the_batches() {
    let app = TestApp::start().await;
    app.storage.set(Some(Fault::RefusesWrites));
    let bodies = ["A", "B", "C"].map(|llm| batch(llm, "ttft", &[1.0]).to_string());
    let bytes: usize = bodies.iter().map(String::len).sum();
    let [a, b, c] = bodies;
    let held = async {
        until("the held batches are tried again", async || {
            app.metric_value("llm_bench_hold_retries_total").await >= 2.0
        })
        .await;
        let report: serde_json::Value = app.get("/readyz").await.json().await.unwrap();
        assert_eq!(report["components"]["consumer"]["state"], "missing");
        assert_eq!(app.metric_value("llm_bench_consumer_holding").await, 1.0);
        until("all three are held", async || {
            app.metric_value("llm_bench_consumer_held_messages").await == 3.0
        })
        .await;
        assert_eq!(
            app.metric_value("llm_bench_consumer_held_bytes").await,
            bytes as f64
        );
        app.storage.set(None);
    };
    tokio::join!(app.publish(a), app.publish(b), app.publish(c), held);
    assert_eq!(app.metric_value("llm_bench_batches_consumed_total").await, 3.0);
    assert_eq!(app.metric_value("llm_bench_consumer_holding").await, 0.0);
    assert!(app.has_no_dead_letters().await);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_transaction_that_hangs() {
    let app = TestApp::start().await;
    app.storage.set(Some(Fault::Hangs));
    tokio::select! {
        () = app.publish(batch("GPT-4o", "ttft", &[1.0]).to_string()) => panic!("settled"),
        () = until("the transaction hangs", async || {
            app.storage.hanging.load(Ordering::Relaxed)
        }) => {}
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_ends_by_itself_is_a_crash() {
    let app = TestApp::start().await;
    app.broker.close().await;
    assert_eq!(app.crash().await.to_string(), "the task consumer crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_statistics_of_one_llm_are_a_lasting_failure_and_the_others_go_on() {
    let app = TestApp::start().await;
    app.publish_and_wait("Broken", "ttft", &[1.0]).await;
    app.publish_and_wait("Healthy", "ttft", &[1.0]).await;
    let llms = app.storage.llms().await.unwrap();
    let broken = llms.iter().find(|llm| llm.name.as_str() == "Broken").unwrap();
    app.storage.set(Some(Fault::Garbles(broken.id)));
    app.publish(batch("Broken", "ttft", &[2.0]).to_string()).await;
    let failures = async || app.metric_value("llm_bench_snapshot_failures_total").await;
    until("refreshes fail, also where nothing moved since", async || {
        failures().await >= 3.0
    })
    .await;
    app.publish_and_wait("Healthy", "ttft", &[2.0]).await;
    assert_eq!(app.counted_values("Broken", "ttft").await, 1);
    app.storage.set(None);
    app.publish(batch("Broken", "ttft", &[3.0]).to_string()).await;
    app.until_counted("Broken", "ttft", 3).await;
    app.end().await;
}
