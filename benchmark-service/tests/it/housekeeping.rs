use std::time::Duration;

use benchmark_service::HousekeepingSettings;
use chrono::TimeDelta;
use shared_types::{MetricBatch, message};
use storage::Outbox;
use test_patience::until;

use crate::app::{Options, TestApp, batch};

async fn app_that_reconciles_all_the_time() -> TestApp {
    let housekeeping = HousekeepingSettings {
        interval: Duration::from_millis(20),
        ..HousekeepingSettings::default()
    };
    TestApp::with(Options {
        housekeeping,
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_broker_lost_is_sent_again_once_it_is_overdue() {
    let app = app_that_reconciles_all_the_time().await;
    let lost = message::decode(batch("GPT-4o", "ttft", &[1.0]).to_string().as_bytes()).unwrap();
    app.storage.record(&lost).await.unwrap();
    let ids: Vec<_> = lost.iter().map(MetricBatch::id).collect();
    app.storage.mark_published(&ids).await.unwrap();
    // A batch that comes after it in the ordinary way is counted long before.
    app.publish_and_wait("GPT-4o", "tps", &[1.0]).await;
    let requeued = async || app.metric_value("llm_bench_reconcile_requeued_total").await;
    assert_eq!(requeued().await, 0.0);
    app.clock.advance(TimeDelta::minutes(6));
    until("the lost batch is to be sent again", async || {
        requeued().await == 1.0
    })
    .await;
    // The sweeper leaves an outbox row alone for some seconds by the same clock.
    app.clock.advance(TimeDelta::minutes(1));
    app.until_counted("GPT-4o", "ttft", 1).await;
    assert_eq!(requeued().await, 1.0);
    until("nothing is uncounted any more", async || {
        app.metric_value("llm_bench_reconcile_uncounted").await == 0.0
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statistics_are_audited_again_and_again() {
    let app = app_that_reconciles_all_the_time().await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0, 2.0]).await;
    until("the batch was audited more than once", async || {
        app.metric_value("llm_bench_audited_batches_total").await >= 2.0
    })
    .await;
    assert_eq!(app.metric_value("llm_bench_reconcile_mismatches").await, 0.0);
    assert_eq!(
        app.metric_value("llm_bench_housekeeping_failures_total").await,
        0.0
    );
    app.end().await;
}
