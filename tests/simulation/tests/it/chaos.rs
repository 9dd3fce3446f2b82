use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{broker::Queue, event_counts::Event, random::Random, world::World};

/// What happens to everybody, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    DatabaseAway,
    DatabaseReadOnly,
    /// The database refuses all transactions with one batch for a while.
    Curse,
    LinkDown,
    LinkBlocked,
    /// All connections for consuming are closed, and come back after a while.
    ConsumeLinkLost,
    /// Whoever operates the queue empties it.
    Purge,
    /// A process is asked to end, and started again.
    OrderlyRestart,
}

impl Disturbance {
    pub(crate) const ALL: [Self; 8] = [
        Self::DatabaseAway,
        Self::DatabaseReadOnly,
        Self::Curse,
        Self::LinkDown,
        Self::LinkBlocked,
        Self::ConsumeLinkLost,
        Self::Purge,
        Self::OrderlyRestart,
    ];
}

/// The source of the disturbances.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) world: Arc<World>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) disturbances: Vec<Disturbance>,
    pub(crate) batches: Vec<shared_types::BatchId>,
    /// One for each process.
    pub(crate) restarts: Vec<Arc<Notify>>,
    pub(crate) random: Random,
}

impl Chaos {
    const LONGEST_PEACE: Duration = Duration::from_secs(8);
    const LONGEST_TROUBLE: Duration = Duration::from_secs(15);

    /// Disturbs until it is aborted.
    pub(crate) async fn run(mut self) {
        if self.disturbances.is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(self.random.duration(Self::LONGEST_PEACE)).await;
            let disturbance = *self.random.pick(&self.disturbances);
            self.world.note(format_args!("CHAOS {disturbance:?}"));
            self.disturb(disturbance);
        }
    }

    fn disturb(&mut self, disturbance: Disturbance) {
        let until = self.world.elapsed() + self.random.duration(Self::LONGEST_TROUBLE);
        let world = &self.world;
        match disturbance {
            Disturbance::DatabaseAway => {
                world.count(Event::DatabaseOutage);
                world.faults(|faults| faults.database.away_until = until);
            }
            Disturbance::DatabaseReadOnly => world.faults(|faults| faults.database.read_only_until = until),
            Disturbance::Curse => {
                let id = *self.random.pick(&self.batches);
                world.faults(|faults| faults.database.refused_until.insert(id, until));
            }
            Disturbance::LinkDown => {
                world.count(Event::LinkDown);
                world.faults(|faults| faults.broker.down_until = until);
                self.queue.close_connection(None, false);
            }
            Disturbance::LinkBlocked => {
                world.count(Event::LinkBlocked);
                world.faults(|faults| faults.broker.blocked_until = until);
            }
            Disturbance::ConsumeLinkLost => {
                world.count(Event::ConsumeLinkLost);
                world.faults(|faults| faults.broker.consumers_away_until = until);
                self.queue.close_connection(None, false);
            }
            Disturbance::Purge => self.queue.purge(),
            Disturbance::OrderlyRestart => {
                world.count(Event::OrderlyRestart);
                self.random.pick(&self.restarts).notify_one();
            }
        }
    }
}
