//! What a scrape shows.

use std::time::Duration;

use broker::LinkStatistics;
use outbox::{OutboxSettings, OutboxTelemetry};
use prometheus::{Registry, TextEncoder};
use test_patience::until;

use crate::bench::{batch, bench, until_empty};

const OLDEST: &str = "llm_bench_outbox_oldest_in_flight_seconds";
const BLOCKED: &str = "llm_bench_broker_blocked_seconds_total{link=\"publishing\"}";
const RECONNECTS: &str = "llm_bench_broker_reconnects_total{link=\"publishing\"}";

#[test]
fn everything_starts_at_zero() {
    let registry = Registry::new();
    OutboxTelemetry::register(&registry).unwrap();
    let page = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for name in [OLDEST, BLOCKED, RECONNECTS, "llm_bench_outbox_memory_bytes"] {
        assert!(page.contains(&format!("\n{name} 0\n")), "{name} in {page}");
    }
}

#[tokio::test]
async fn the_oldest_in_flight_ages_until_it_is_confirmed() {
    let bench = bench(OutboxSettings::default()).await;
    assert_eq!(bench.metric(OLDEST), 0.0);
    bench.publisher.hang();
    bench.outbox.submit(vec![batch(1, "ttft")]).await.unwrap();
    until("some age", async || bench.metric(OLDEST) > 0.05).await;
    let before = bench.metric(OLDEST);
    bench.outbox.submit(vec![batch(2, "ttft")]).await.unwrap();
    assert!(bench.metric(OLDEST) > before, "a younger one hides the oldest");
    bench.publisher.go_on();
    until_empty(&bench).await;
    until("nothing in flight", async || bench.metric(OLDEST) == 0.0).await;
}

#[tokio::test]
async fn the_links_statistics_are_those_of_the_moment() {
    let bench = bench(OutboxSettings::default()).await;
    for (reconnects, shown, blocked) in [(0, 0.0, 0.5), (7, 7.0, 2.25)] {
        *bench.publisher.statistics.lock().unwrap() = LinkStatistics {
            reconnects,
            blocked: Duration::from_secs_f64(blocked),
        };
        assert_eq!(bench.metric(RECONNECTS), shown);
        assert_eq!(bench.metric(BLOCKED), blocked);
    }
}
