//! Shares of a run, and the conversations about them.

use std::time::Duration;

use broker::{OfferedShares, ShareError, Shares, TakenShare};
use broker_rabbitmq::RabbitMqShares;
use bytes::Bytes;
use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use test_patience::{found, soon, until};

use crate::servers::{empty_vhost, settings};

const LONG: Duration = Duration::from_secs(600);

async fn shares() -> RabbitMqShares {
    RabbitMqShares::new(settings(&empty_vhost().await))
}

async fn offer(shares: &RabbitMqShares, offers: &[&'static str]) -> Box<dyn OfferedShares> {
    let offers = offers.iter().map(|offer| Bytes::from_static(offer.as_bytes()));
    shares.offer("run-7", offers.collect(), LONG).await.unwrap()
}

async fn take(shares: &RabbitMqShares) -> Box<dyn TakenShare> {
    soon("a share", shares.take()).await.unwrap()
}

async fn told(offered: &mut dyn OfferedShares) -> broker::FromWorker {
    soon("a worker's word", offered.next()).await.unwrap()
}

#[tokio::test]
async fn each_worker_takes_one_and_both_sides_are_heard() {
    let shares = shares().await;
    let mut offered = offer(&shares, &["one", "two"]).await;
    let mut taken = [take(&shares).await, take(&shares).await];
    assert_eq!(
        [&taken[0].offer()[..], &taken[1].offer()[..]],
        [&b"one"[..], b"two"]
    );
    for (taken, word) in taken.iter().zip(["from one", "from two"]) {
        taken.send(word.into()).await.unwrap();
        let heard = told(&mut *offered).await;
        assert_eq!(heard.body, word);
        offered
            .send(&heard.from, format!("to {word}").into())
            .await
            .unwrap();
    }
    for (taken, word) in taken.iter_mut().zip(["to from one", "to from two"]) {
        assert_eq!(soon("an answer", taken.next()).await.unwrap(), word);
    }
}

#[tokio::test]
async fn a_share_that_was_not_kept_goes_to_another() {
    let shares = shares().await;
    let _offered = offer(&shares, &["one"]).await;
    take(&shares).await.close().await;
    assert_eq!(take(&shares).await.offer(), "one");
}

/// Also where its worker goes on to hold the conversation, and when it has gone.
#[tokio::test]
async fn a_share_that_was_kept_goes_to_nobody() {
    let shares = shares().await;
    let _offered = offer(&shares, &["one", "two"]).await;
    let mut one = take(&shares).await;
    one.keep().await.unwrap();
    one.keep().await.unwrap();
    // A worker that is busy with one share holds no second: it is there for others.
    assert_eq!(take(&shares).await.offer(), "two");
    one.close().await;
    let _offered = offer(&shares, &["three"]).await;
    let next = [take(&shares).await, take(&shares).await];
    let mut next: Vec<_> = next.iter().map(|share| share.offer().clone()).collect();
    next.sort();
    assert_eq!(next, ["three", "two"]);
}

#[tokio::test]
async fn each_side_learns_that_the_other_has_gone() {
    let shares = shares().await;
    let mut offered = offer(&shares, &["one", "two"]).await;
    let leaving = take(&shares).await;
    leaving.send("hello".into()).await.unwrap();
    let address = told(&mut *offered).await.from;
    leaving.close().await;
    // The end of a conversation is waited for, but not for ever: the broker may know of it a moment later.
    let error = found("the worker's end", async || {
        offered.send(&address, "still there?".into()).await.err()
    })
    .await;
    assert!(matches!(error, ShareError::Gone), "{error:?}");

    let staying = take(&shares).await;
    offered.close().await;
    let error = found("the coordinator's end", async || {
        staying.send("still there?".into()).await.err()
    })
    .await;
    assert!(matches!(error, ShareError::Gone), "{error:?}");
}

#[tokio::test]
async fn what_nobody_took_in_time_is_withdrawn() {
    let url = empty_vhost().await;
    let shares = RabbitMqShares::new(settings(&url));
    let offers = vec!["early".into()];
    let _early = shares
        .offer("run-7", offers, Duration::from_millis(1))
        .await
        .unwrap();
    let onlooker = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = onlooker.create_channel().await.unwrap();
    until("the queue has dropped what has expired", async || {
        let look = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("llm.load-test.shares".into(), look, FieldTable::default());
        queue.await.unwrap().message_count() == 0
    })
    .await;
    let _late = offer(&shares, &["late"]).await;
    assert_eq!(take(&shares).await.offer(), "late");
}

#[tokio::test]
async fn a_broker_that_is_away_is_said_to_be() {
    let nowhere = RabbitMqShares::new(settings("amqp://127.0.0.1:1"));
    let error = soon("an error", nowhere.take()).await.err().unwrap();
    assert!(matches!(error, ShareError::Unavailable { .. }), "{error:?}");
}
