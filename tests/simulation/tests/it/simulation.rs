//! One run, from its start until everything is quiet again.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use shared_types::RegistrySeed;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Queue,
    chaos::Chaos,
    client::Client,
    database::{REFUSED, Store},
    event_counts::Event,
    invariants::Invariants,
    processes::{Role, Slot, Surroundings},
    scenario::Scenario,
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
    let (horizon, reconciled, foreign) = (
        scenario.horizon,
        scenario.reconciled,
        scenario.workload.foreign.clone(),
    );
    let Running {
        surroundings,
        mut tasks,
        chaos,
        stop,
    } = start(scenario, keep_trace);
    let Surroundings {
        world,
        store,
        queue,
        clients,
        ..
    } = &surroundings;

    tokio::time::sleep(horizon).await;
    // The small scenario has no other faults than its crashes, which may come at any time.
    if !horizon.is_zero() {
        chaos.abort();
        world.heal();
        world.note(format_args!("HEALED"));
    }
    let invariants = Invariants {
        store,
        queue,
        clients,
        foreign: &foreign,
    };
    let (recovery, busy_points) = until_quiet(world, &invariants, reconciled).await;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("whoever keeps a process running does not panic");
    }
    for violation in invariants.violations() {
        world.violated(violation);
    }
    Report {
        record: world.record(),
        recovery,
        busy_points,
    }
}

/// A simulation under way.
struct Running {
    surroundings: Surroundings,
    /// Whoever keeps the processes running, and whoever publishes on his own.
    tasks: JoinSet<()>,
    chaos: AbortHandle,
    stop: CancellationToken,
}

fn start(scenario: Scenario, keep_trace: bool) -> Running {
    let Scenario {
        mut random,
        workload,
        mut roles,
        ..
    } = scenario;
    let world = World::new(random.split(), scenario.faults, scenario.crashes, keep_trace);
    let registry = RegistrySeed::standard().expect("constants");
    let surroundings = Surroundings {
        store: Store::new(&registry, scenario.sabotage),
        queue: Queue::new(&world),
        clients: workload.clients.iter().cloned().map(Client::new).collect(),
        settings: scenario.settings,
        sabotage: scenario.sabotage,
        lives: Arc::new(AtomicU64::new(1)),
        world,
    };
    if scenario.reconciled {
        roles.push(Role::Reconciler);
    }
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    let restarts: Vec<Arc<Notify>> = roles.iter().map(|_| Arc::default()).collect();
    for (role, restart) in roles.into_iter().zip(&restarts) {
        let slot = Slot {
            surroundings: surroundings.clone(),
            role,
            restart: Arc::clone(restart),
            stop: stop.clone(),
        };
        tasks.spawn(slot.keep_running());
    }
    let batches = workload.ids();
    for (due, body) in workload.foreign {
        let queue = Arc::clone(&surroundings.queue);
        tasks.spawn(async move {
            tokio::time::sleep(due).await;
            queue.push(body);
        });
    }
    let chaos = Chaos {
        world: Arc::clone(&surroundings.world),
        queue: Arc::clone(&surroundings.queue),
        disturbances: scenario.disturbances,
        batches,
        restarts,
        random: random.split(),
    };
    Running {
        chaos: tokio::spawn(chaos.run()).abort_handle(),
        surroundings,
        tasks,
        stop,
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
