//! A broker in memory. Its queue survives every crash of a process; links, confirmations and acknowledgements get lost.

mod consuming;
mod publishing;
mod queue;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{
    Broker, BrokerInfo, DeadLetters, LinkState, Prefetch, PrefetchUsage, PublishError, Publisher,
    Subscription,
};

pub(crate) use self::queue::Queue;
use self::{consuming::SimulatedSubscription, publishing::SimulatedPublisher};
use crate::{sabotage::Sabotage, world::Process};

/// A process's connection to the broker.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedBroker {
    pub(crate) process: Arc<Process>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) sabotage: Sabotage,
}

impl SimulatedBroker {
    fn link(&self) -> LinkState {
        let world = &self.process.world;
        let now = world.elapsed();
        let reason = || "the scenario says so".to_owned();
        world.faults(|faults| {
            if now < faults.broker.down_until || self.process.is_dead() {
                LinkState::Down { reason: reason() }
            } else if now < faults.broker.blocked_until {
                LinkState::Blocked { reason: reason() }
            } else {
                LinkState::Ready
            }
        })
    }

    /// Until the link for consuming is back; nothing where it is there.
    fn consumers_away_for(&self) -> Duration {
        let world = &self.process.world;
        let back_at = world.faults(|faults| faults.broker.down_until.max(faults.broker.consumers_away_until));
        back_at.saturating_sub(world.elapsed())
    }
}

#[async_trait]
impl Broker for SimulatedBroker {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(SimulatedPublisher(self.clone()))
    }

    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription> {
        Box::new(SimulatedSubscription {
            broker: self.clone(),
            prefetch,
        })
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        panic!("operators are simulated by `Queue::replay`")
    }

    fn consume_link(&self) -> LinkState {
        match self.consumers_away_for() {
            Duration::ZERO => LinkState::Ready,
            away => LinkState::Down {
                reason: format!("the scenario says so, for another {away:?}"),
            },
        }
    }

    fn prefetch_usage(&self) -> PrefetchUsage {
        panic!("nobody asks what is held in the simulation")
    }

    async fn info(&self) -> Result<BrokerInfo, PublishError> {
        panic!("nobody asks for the depth of the queues in the simulation")
    }

    async fn close(&self) {
        panic!("processes of the simulation close their connections when they end")
    }
}
