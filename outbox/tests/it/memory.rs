//! The outbox stays within its budgets, and hands on the pressure.

use std::{iter, sync::atomic::Ordering, time::Duration};

use outbox::OutboxSettings;
use shared_types::MAX_VALUES;
use storage::{Outbox as _, Recorded};
use test_patience::{patience, soon, until};

use crate::bench::{Bench, batch, bench, eager, large_batch, until_empty};

const VALUES: usize = 10_000;
const BATCHES: u32 = 12;
/// Above the estimate for a batch of `VALUES`.
const ROOM_FOR_ONE: usize = VALUES * 33 + 4096;
const MEMORY: &str = "llm_bench_outbox_memory_bytes";

/// Submits all batches, each in a call of its own, and checks that it stalls at the budget, and goes on after.
async fn submit_beyond(bench: &Bench, budget: usize, fit: u32) {
    bench.publisher.hang();
    let outbox = bench.outbox.clone();
    let submitting = tokio::spawn(async move {
        for number in 0..BATCHES {
            outbox.submit(vec![large_batch(number, VALUES)]).await.unwrap();
        }
    });
    let stalled = fit + 1;
    until("the producer stalls with one more stored than fit", async || {
        bench.submitted() == f64::from(stalled) && bench.attempts() == fit as usize
    })
    .await;
    let outbox = bench.outbox.clone();
    let second = tokio::spawn(async move { outbox.submit(vec![batch(0, "ttft")]).await });
    until("what a second producer submits is stored", async || {
        bench.submitted() == f64::from(stalled + 1)
    })
    .await;
    assert!(!second.is_finished(), "a second producer did not wait");
    second.abort();
    assert!(!submitting.is_finished());
    let memory = bench.metric(MEMORY);
    assert!(
        memory > 0.0 && memory <= budget.next_multiple_of(1024) as f64,
        "{memory}"
    );

    bench.publisher.go_on();
    soon("the producer goes on", submitting).await.unwrap();
    until_empty(bench).await;
    let (held, peak) = bench.publisher.held();
    assert_eq!(held, 0);
    assert!(peak <= fit as usize * ROOM_FOR_ONE, "held {peak} bytes");
    assert_eq!(bench.metric(MEMORY), 0.0);
}

#[tokio::test]
async fn a_producer_waits_while_the_memory_is_used_up_and_goes_on_after() {
    const FIT: u32 = 3;
    let budget = FIT as usize * ROOM_FOR_ONE;
    let bench = bench(OutboxSettings {
        memory: budget,
        ..eager()
    })
    .await;
    submit_beyond(&bench, budget, FIT).await;
    // The eager sweeper has left alone what was submitted and waited. The second producer was given up: after that its
    // batch was the sweeper's.
    let received = bench.publisher.received();
    assert_eq!(received.len(), BATCHES as usize + 1);
    for number in 0..BATCHES {
        assert_eq!(received[&large_batch(number, VALUES).id()], 1);
    }
}

#[tokio::test]
async fn who_does_not_wait_is_answered_though_the_memory_is_used_up() {
    let bench = bench(OutboxSettings {
        memory: ROOM_FOR_ONE,
        ..eager()
    })
    .await;
    bench.publisher.hang();
    for number in 0..BATCHES {
        let submitted = bench
            .outbox
            .submit_without_waiting(vec![large_batch(number, VALUES)])
            .await;
        assert_eq!(submitted.unwrap(), [Recorded::Stored]);
    }
    assert!(bench.metric(MEMORY) <= ROOM_FOR_ONE.next_multiple_of(1024) as f64);
    assert_eq!(bench.unpublished().await, u64::from(BATCHES));
    bench.publisher.go_on();
    until_empty(&bench).await;
    for number in 0..BATCHES {
        assert!(
            bench
                .publisher
                .received()
                .contains_key(&large_batch(number, VALUES).id())
        );
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_budget_waits_until_it_is_alone() {
    const BUDGET: usize = 1024;
    let bench = bench(OutboxSettings {
        memory: BUDGET,
        ..eager()
    })
    .await;
    submit_beyond(&bench, BUDGET, 1).await;
}

#[tokio::test]
async fn a_backlog_is_swept_within_the_budget() {
    const BACKLOG: u32 = 40;
    const LARGEST: u32 = 3;
    // The least that it takes.
    let budget = 2 * (MAX_VALUES * 33 + 2048);
    let bench = bench(OutboxSettings {
        sweep_memory: 1,
        ..eager()
    })
    .await;
    bench.publisher.hang();
    let largest = (BACKLOG..BACKLOG + LARGEST).map(|number| large_batch(number, MAX_VALUES));
    let backlog: Vec<_> = (0..BACKLOG)
        .map(|number| large_batch(number, VALUES))
        .chain(largest)
        .collect();
    bench.storage.record(&backlog).await.unwrap();
    until("the sweeper has taken what fits", async || {
        bench.publisher.held().0 > budget / 3
    })
    .await;
    // What is submitted has a budget of its own.
    bench.outbox.submit(vec![batch(1, "ttft")]).await.unwrap();
    bench.publisher.go_on();
    until_empty(&bench).await;
    let (held, peak) = bench.publisher.held();
    assert_eq!(held, 0);
    assert!(peak <= budget, "held {peak} of {budget} bytes");
    assert_eq!(bench.publisher.received().len(), (BACKLOG + LARGEST) as usize + 1);
}

#[tokio::test]
async fn a_sweep_ends_when_the_broker_takes_nothing() {
    const BACKLOG: u32 = 1000;
    // One claim, and what was claimed while the first publish failed.
    const CLAIMED: usize = 200;
    // Longer than the test takes: there is one sweep.
    let interval = patience();
    let bench = bench(OutboxSettings {
        grace: Duration::ZERO,
        sweep_interval: interval,
        ..OutboxSettings::default()
    })
    .await;
    bench.publisher.away.store(true, Ordering::SeqCst);
    let backlog: Vec<_> = (0..BACKLOG).map(|number| batch(number, "ttft")).collect();
    bench.storage.record(&backlog).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(interval).await;
    tokio::time::resume();
    until("an attempt", async || bench.attempts() > 0).await;
    // First one at a time, so that a sweep which does not end gets its turns between them, and takes all.
    let an_hour = Duration::from_secs(3600);
    let mut left_alone = 0;
    for limit in iter::repeat_n(1, 20).chain([BACKLOG]) {
        let claimed = bench.storage.claim_unpublished(limit, Duration::ZERO, an_hour);
        left_alone += claimed.await.unwrap().len();
    }
    assert!(
        left_alone + CLAIMED > BACKLOG as usize,
        "only {left_alone} of {BACKLOG} were left alone"
    );
}
