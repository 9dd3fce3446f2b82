//! What is stored is published once, and again where nobody knows.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use outbox::OutboxSettings;
use storage::{Outbox as _, Recorded};
use test_patience::{soon, until};

use crate::bench::{batch, bench, eager, unhurried, until_empty};

#[tokio::test]
async fn what_is_submitted_is_published_once_and_leaves_the_outbox() {
    let bench = bench(unhurried()).await;
    let batches: Vec<_> = (0..100).map(|n| batch(n, "ttft")).collect();
    let outcomes = bench.outbox.submit(batches.clone()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Recorded::Stored));
    until_empty(&bench).await;
    let received = bench.publisher.received();
    assert_eq!(received.len(), 100);
    assert!(received.values().all(|times| *times == 1));
    bench.life.end();
    bench.life.drained().await.unwrap();
}

#[tokio::test]
async fn a_retry_is_stored_and_published_once_and_a_refusal_not_at_all() {
    let bench = bench(unhurried()).await;
    assert_eq!(
        bench.outbox.submit(vec![batch(1, "ttft")]).await.unwrap(),
        [Recorded::Stored]
    );
    let outcomes = bench
        .outbox
        .submit(vec![batch(1, "ttft"), batch(2, "nonsense")])
        .await
        .unwrap();
    assert_eq!(outcomes[0], Recorded::AlreadyStored);
    let Recorded::Refused(refusal) = &outcomes[1] else {
        panic!("{outcomes:?}")
    };
    assert!(refusal.to_string().contains("nonsense"), "{refusal}");
    until_empty(&bench).await;
    assert_eq!(
        bench.publisher.received(),
        BTreeMap::from([(batch(1, "ttft").id(), 1)])
    );
}

#[tokio::test]
async fn what_a_broker_that_is_away_did_not_take_is_swept_when_it_is_back() {
    let bench = bench(eager()).await;
    bench.publisher.away.store(true, Ordering::SeqCst);
    bench
        .outbox
        .submit((0..300).map(|n| batch(n, "ttft")).collect())
        .await
        .unwrap();
    // The relay tries each once; every further attempt is the sweeper's.
    until("a sweep that fails", async || bench.attempts() > 300).await;
    assert_eq!(bench.unpublished().await, 300, "what was not taken stays");
    assert_eq!(bench.publisher.received(), BTreeMap::new());
    bench.publisher.away.store(false, Ordering::SeqCst);
    until_empty(&bench).await;
    assert_eq!(bench.publisher.received().len(), 300);
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_by_another() {
    let bench = bench(eager()).await;
    bench.storage.record(&[batch(1, "ttft")]).await.unwrap();
    until_empty(&bench).await;
    assert_eq!(bench.publisher.received().len(), 1);
}

#[tokio::test]
async fn the_sweeper_leaves_alone_what_this_process_is_publishing() {
    let bench = bench(eager()).await;
    let first = batch(1, "ttft");
    bench.publisher.never_confirm(&first);
    bench.outbox.submit(vec![first.clone()]).await.unwrap();
    // Recorded by somebody else. Whenever the sweeper takes one of these, it has passed by the first. They are confirmed,
    // because a sweep ends only when all that it publishes is answered.
    for number in [2, 3] {
        let swept = batch(number, "ttft");
        bench.storage.record(std::slice::from_ref(&swept)).await.unwrap();
        until("the sweeper publishes something", async || {
            bench.attempts_of(&swept) > 0 || bench.attempts_of(&first) > 1
        })
        .await;
        assert_eq!(bench.attempts_of(&first), 1, "before batch {number}");
    }
    until("all others are published", async || {
        bench.unpublished().await == 1
    })
    .await;
    assert!(!bench.publisher.received().contains_key(&first.id()));
    bench.life.end();
    bench.life.drained().await.unwrap();
    assert_eq!(bench.unpublished().await, 1, "an unconfirmed batch stays");
}

#[tokio::test]
async fn a_full_queue_makes_the_producer_wait() {
    let settings = OutboxSettings {
        queue: 4,
        window: 2,
        ..OutboxSettings::default()
    };
    let bench = bench(settings).await;
    bench.publisher.hang();
    let outbox = bench.outbox.clone();
    let batches = (0..50).map(|n| batch(n, "ttft")).collect();
    let submitting = tokio::spawn(async move { outbox.submit(batches).await });
    until("all is stored and the window is full", async || {
        bench.submitted() == 50.0 && bench.attempts() == 2
    })
    .await;
    assert!(!submitting.is_finished(), "it did not wait");
    bench.publisher.go_on();
    soon("the producer goes on", submitting).await.unwrap().unwrap();
    until_empty(&bench).await;
    assert_eq!(bench.publisher.received().len(), 50);
}
