use async_trait::async_trait;
use broker::{Acknowledger, Delivery, Prefetch, SettleError, Subscription};

use super::SimulatedBroker;
use crate::event_counts::Event;

pub(super) struct SimulatedSubscription {
    pub(super) broker: SimulatedBroker,
    pub(super) prefetch: Prefetch,
}

#[async_trait]
impl Subscription for SimulatedSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        let SimulatedBroker { process, queue, .. } = &self.broker;
        loop {
            process.unless_dead().await;
            let changed = queue.changed.notified();
            let pause = self.broker.consumers_away_for();
            if pause.is_zero() {
                if let Some((tag, message)) = queue.take(process.number, self.prefetch.messages.get().into())
                {
                    process
                        .world
                        .note(format_args!("{} gets delivery {tag}", process.name));
                    process.point("delivery", "after").await;
                    let receipt = SimulatedAcknowledger {
                        broker: self.broker.clone(),
                        tag,
                        settled: false,
                    };
                    return Some(Delivery::new(
                        message.body,
                        message.redelivered,
                        Box::new(receipt),
                    ));
                }
                changed.await;
                continue;
            }
            // Whichever comes first; both mean to look again.
            let _ = tokio::time::timeout(pause, changed).await;
        }
    }
}

struct SimulatedAcknowledger {
    broker: SimulatedBroker,
    tag: u64,
    settled: bool,
}

/// What becomes of a settlement that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Settled,
    /// The broker never hears of it, whatever the consumer is told: the message comes again.
    Lost {
        told: bool,
    },
    /// The broker hears of it, and the consumer is told that it does not know.
    Unconfirmed,
}

impl SimulatedAcknowledger {
    async fn settle(mut self: Box<Self>, rejected: Option<&str>) -> Result<(), SettleError> {
        let SimulatedBroker { process, queue, .. } = self.broker.clone();
        let what = if rejected.is_some() { "reject" } else { "ack" };
        process.point(what, "before").await;
        process.travel().await;
        let fate = self.fate();
        self.settled = true;
        let arrived = match (fate, rejected) {
            (Fate::Settled | Fate::Unconfirmed, None) => queue.acknowledge(self.tag),
            (Fate::Settled | Fate::Unconfirmed, Some(reason)) => queue.bury(self.tag, reason, true),
            (Fate::Lost { .. }, None) => queue.put_back(self.tag),
            // A rejection is a publish to the dead letters, then an acknowledgement.
            (Fate::Lost { .. }, Some(reason)) => queue.bury(self.tag, reason, false),
        };
        process.world.note(format_args!(
            "{} {what} {}: {fate:?}, link {}",
            process.name,
            self.tag,
            if arrived { "up" } else { "lost" }
        ));
        process.point(what, "after").await;
        process.travel().await;
        match fate {
            Fate::Settled | Fate::Lost { told: false } if arrived => Ok(()),
            _ => Err(SettleError {
                source: "the simulated link is gone".into(),
            }),
        }
    }

    fn fate(&self) -> Fate {
        let world = &self.broker.process.world;
        let fate = world.choose(|random, faults| {
            if random.chance(faults.broker.settlement_lost) {
                Fate::Lost {
                    told: random.chance(500),
                }
            } else if random.chance(faults.broker.settlement_unconfirmed) {
                Fate::Unconfirmed
            } else {
                Fate::Settled
            }
        });
        match fate {
            Fate::Settled => {}
            Fate::Lost { .. } => world.count(Event::SettlementLost),
            Fate::Unconfirmed => world.count(Event::SettlementUnconfirmed),
        }
        fate
    }
}

#[async_trait]
impl Acknowledger for SimulatedAcknowledger {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.settle(None).await
    }

    async fn retry(mut self: Box<Self>) -> Result<(), SettleError> {
        let SimulatedBroker { process, queue, .. } = self.broker.clone();
        process.point("retry", "before").await;
        self.settled = true;
        queue.put_back(self.tag);
        Ok(())
    }

    async fn reject(self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.settle(Some(reason)).await
    }
}

impl Drop for SimulatedAcknowledger {
    /// Destructors of a process that was killed do not run.
    fn drop(&mut self) {
        if !self.settled && !self.broker.process.is_dead() {
            self.broker.queue.put_back(self.tag);
        }
    }
}
