//! One run, from its start until everything is quiet again.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use shared_types::RegistrySeed;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Queue,
    chaos::Chaos,
    client::Client,
    database::{REFUSED, Store},
    invariants::Invariants,
    processes::{Role, Slot, Surroundings},
    scenario::Scenario,
    tally::Event,
    world::{Record, World},
};

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) record: Record,
    /// From the end of all faults until everything was quiet and counted.
    pub(crate) recovery: Duration,
    /// The points of interaction that were reached by then.
    pub(crate) busy_points: u64,
}

/// Runs a scenario: one thread, virtual time.
pub(crate) fn simulate(scenario: Scenario, keep_trace: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(run(scenario, keep_trace))
}

/// How long the pipeline may need to recover where nothing confirmed was lost (invariant I4), and where something was:
/// the reconciler's pauses grow.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_WITH_LOSSES: Duration = Duration::from_secs(300);

async fn run(scenario: Scenario, keep_trace: bool) -> Report {
    let Scenario {
        mut random,
        workload,
        mut roles,
        settings,
        faults,
        crashes,
        disturbances,
        horizon,
        reconciled,
        sabotage,
    } = scenario;
    if reconciled {
        roles.push(Role::Reconciler);
    }
    let world = World::new(random.split(), faults, crashes, keep_trace);
    let seed = RegistrySeed::standard().expect("constants");
    let surroundings = Surroundings {
        store: Store::new(&seed, sabotage),
        queue: Queue::new(&world),
        clients: workload.clients.iter().cloned().map(Client::new).collect(),
        settings,
        sabotage,
        lives: Arc::new(AtomicU64::new(1)),
        world,
    };
    let Surroundings {
        world, store, queue, ..
    } = &surroundings;

    let stop = CancellationToken::new();
    let restarts: Vec<Arc<Notify>> = roles.iter().map(|_| Arc::default()).collect();
    let mut slots = tokio::task::JoinSet::new();
    for (role, restart) in roles.into_iter().zip(&restarts) {
        let slot = Slot {
            surroundings: surroundings.clone(),
            role,
            restart: Arc::clone(restart),
            stop: stop.clone(),
        };
        slots.spawn(slot.keep_running());
    }
    let chaos = Chaos {
        world: Arc::clone(world),
        queue: Arc::clone(queue),
        disturbances,
        batches: workload.ids(),
        restarts,
        random: random.split(),
    };
    let chaos = tokio::spawn(chaos.run());
    let foreigners: Vec<_> = workload
        .foreign
        .iter()
        .map(|(due, body)| {
            let (due, body, queue) = (*due, body.clone(), Arc::clone(queue));
            tokio::spawn(async move {
                tokio::time::sleep(due).await;
                queue.push(body);
            })
        })
        .collect();

    tokio::time::sleep(horizon).await;
    chaos.abort();
    world.note(format_args!("HEALED"));
    // A small scenario has no other faults than its crashes, which may come at any time.
    if !horizon.is_zero() {
        world.heal();
    }
    for foreigner in foreigners {
        foreigner.await.expect("publishing into the queue");
    }
    let invariants = Invariants {
        store,
        queue,
        clients: &surroundings.clients,
        foreign: &workload.foreign,
    };
    let (recovery, busy_points) = until_quiet(world, &invariants, reconciled).await;
    stop.cancel();
    slots.join_all().await;
    for violation in invariants.violations() {
        world.violated(violation);
    }
    Report {
        record: world.record(),
        recovery,
        busy_points,
    }
}

/// Waits until there is nothing more to do, and gives how long that took, and the points that were reached by
/// then. Meanwhile an operator replays dead letters that only a
/// database made that would not take them.
async fn until_quiet(world: &World, invariants: &Invariants<'_>, reconciled: bool) -> (Duration, u64) {
    const GLANCE: Duration = Duration::from_millis(500);
    // Longer than the slowest publish, which may have been under way when the faults ended and bring a duplicate.
    const SILENCE: Duration = Duration::from_secs(20);
    let patience = if reconciled {
        PATIENCE_WITH_LOSSES
    } else {
        PATIENCE
    };
    let healed_at = world.elapsed();
    let mut quiet_since = None;
    loop {
        for innocent in invariants.innocent_dead_letters() {
            world.violated(innocent);
        }
        let replayed = invariants.queue.replay(REFUSED);
        world.count_many(Event::DeadLetterReplayed, replayed);
        let waited = world.elapsed() - healed_at;
        match invariants.unfinished() {
            None => {
                let (since, points) = *quiet_since.get_or_insert_with(|| (waited, world.points()));
                if waited - since >= SILENCE {
                    if since > patience {
                        world.violated(format!("I4: recovered only after {since:?}"));
                    }
                    return (since, points);
                }
            }
            Some(unfinished) if waited > patience + SILENCE => {
                world.violated(format!("I4: not recovered after {waited:?}: {unfinished}"));
                return (waited, world.points());
            }
            Some(_) => quiet_since = None,
        }
        tokio::time::sleep(GLANCE).await;
    }
}
