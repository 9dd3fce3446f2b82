use std::time::Duration;

use async_trait::async_trait;
use broker::{LinkState, OutgoingMessage, PublishError, Publisher};

use super::SimulatedBroker;
use crate::{event_counts::Event, sabotage::Sabotage};

/// How long a publisher waits for a confirmation.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct SimulatedPublisher(pub(super) SimulatedBroker);

/// What becomes of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Confirmed,
    /// It never arrives.
    Lost,
    /// It arrives, and the confirmation does not come back.
    ConfirmLost,
    QueueFull,
}

fn unconfirmed() -> PublishError {
    PublishError::Unconfirmed {
        source: "the simulated confirmation is lost".into(),
    }
}

#[async_trait]
impl Publisher for SimulatedPublisher {
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError> {
        let Self(broker) = self;
        let process = &broker.process;
        process.point("publish", "before").await;
        self.wait_while_blocked(message).await?;
        process.travel().await;
        let fate = self.fate();
        if matches!(fate, Fate::Confirmed | Fate::ConfirmLost) {
            self.arrive(message);
        }
        process
            .world
            .note(format_args!("{} publish {}: {fate:?}", process.name, message.id));
        process.point("publish", "after").await;
        process.travel().await;
        match fate {
            Fate::Confirmed => Ok(()),
            Fate::QueueFull => Err(PublishError::Refused {
                reason: "the simulated queue is full".to_owned(),
            }),
            Fate::Lost | Fate::ConfirmLost => {
                let waited = process
                    .world
                    .choose(|random, _| *random.pick(&[Duration::ZERO, PATIENCE]));
                process.wait(waited).await;
                Err(unconfirmed())
            }
        }
    }

    fn link(&self) -> LinkState {
        self.0.link()
    }
}

impl SimulatedPublisher {
    /// As the real client: what could not be sent for too long may still be sent later.
    async fn wait_while_blocked(&self, message: &OutgoingMessage) -> Result<(), PublishError> {
        let Self(SimulatedBroker { process, queue, .. }) = self;
        match self.link() {
            LinkState::Ready => Ok(()),
            LinkState::Down { reason } => Err(PublishError::Unavailable { reason }),
            LinkState::Blocked { .. } => {
                let blocked_until = process.world.faults(|faults| faults.broker.blocked_until);
                let blocked = blocked_until.saturating_sub(process.world.elapsed());
                process.wait(blocked.min(PATIENCE)).await;
                if blocked <= PATIENCE {
                    return Ok(());
                }
                if process.world.choose(|random, _| random.chance(500)) {
                    queue.push(message.body.clone());
                }
                Err(unconfirmed())
            }
        }
    }

    fn fate(&self) -> Fate {
        let Self(SimulatedBroker { process, queue, .. }) = self;
        let world = &process.world;
        if queue.is_full(world.faults(|faults| faults.broker.capacity)) {
            world.count(Event::QueueFull);
            return Fate::QueueFull;
        }
        let fate = world.choose(|random, faults| {
            if random.chance(faults.broker.publish_lost) {
                Fate::Lost
            } else if random.chance(faults.broker.confirm_lost) {
                Fate::ConfirmLost
            } else {
                Fate::Confirmed
            }
        });
        world.count_many(Event::PublishLost, (fate == Fate::Lost).into());
        world.count_many(Event::ConfirmLost, (fate == Fate::ConfirmLost).into());
        fate
    }

    fn arrive(&self, message: &OutgoingMessage) {
        let Self(broker) = self;
        let world = &broker.process.world;
        if broker.sabotage == Sabotage::BrokerLosesConfirmed && world.choose(|random, _| random.chance(100)) {
            return;
        }
        broker.queue.push(message.body.clone());
        if world.choose(|random, faults| random.chance(faults.broker.duplicated)) {
            world.count(Event::DuplicatePublish);
            broker.queue.push(message.body.clone());
        }
    }
}
