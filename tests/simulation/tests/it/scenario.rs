use std::{collections::BTreeSet, time::Duration};

use outbox::OutboxSettings;

use crate::{
    chaos::Disturbance, faults::Faults, processes::Role, random::Random, sabotage::Sabotage,
    workload::Workload, world::CrashPlan,
};

/// Everything that a run depends on: the same scenario gives the same run, event by event.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) random: Random,
    pub(crate) workload: Workload,
    pub(crate) roles: Vec<Role>,
    pub(crate) settings: OutboxSettings,
    pub(crate) faults: Faults,
    pub(crate) crashes: CrashPlan,
    pub(crate) disturbances: Vec<Disturbance>,
    /// How long things go wrong.
    pub(crate) horizon: Duration,
    /// Whether a reconciler runs: only where messages may be lost that the broker had confirmed, so that it covers up
    /// for nobody else.
    pub(crate) reconciled: bool,
    pub(crate) sabotage: Sabotage,
}

/// Short, so that a lease lapses while a slow publish is under way.
const SETTINGS: OutboxSettings = OutboxSettings {
    queue: 4,
    memory: 1 << 14,
    sweep_memory: 1 << 25,
    window: 4,
    grace: Duration::from_secs(2),
    lease: Duration::from_secs(5),
    sweep_interval: Duration::from_secs(1),
    sweep_limit: 8,
    drain: Duration::from_secs(3),
};

impl Scenario {
    /// A little of everything, without faults but the crashes at the given points.
    pub(crate) fn small(crashes: BTreeSet<u64>) -> Self {
        Self {
            random: Random::new(0),
            workload: Workload::small(),
            roles: vec![Role::Producer { client: 0 }, Role::Consumer],
            settings: SETTINGS,
            faults: Faults::default(),
            crashes: CrashPlan::At(crashes),
            disturbances: Vec::new(),
            horizon: Duration::ZERO,
            reconciled: false,
            sabotage: Sabotage::None,
        }
    }

    /// The scenario of a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let horizon = Duration::from_secs(random.between(5, 40) as u64);
        let clients = random.between(1, 2);
        let mut roles: Vec<Role> = (0..clients)
            .map(|client| {
                if random.chance(300) {
                    Role::Both { client }
                } else {
                    Role::Producer { client }
                }
            })
            .collect();
        roles.extend((0..random.between(1, 3)).map(|_| Role::Consumer));
        let disturbances: Vec<Disturbance> = Disturbance::ALL
            .into_iter()
            .filter(|_| random.chance(350))
            .collect();
        Self {
            workload: Workload::drawn(&mut random, clients, horizon),
            roles,
            settings: OutboxSettings {
                queue: random.between(1, 8),
                window: random.between(1, 8),
                lease: Duration::from_secs(random.between(1, 15) as u64),
                sweep_limit: u32::try_from(random.between(1, 10)).expect("small"),
                ..SETTINGS
            },
            faults: Faults::drawn(&mut random),
            crashes: CrashPlan::Randomly {
                per_ten_thousand: *random.pick(&[0, 20, 100, 400]),
                most: 12,
            },
            reconciled: disturbances.contains(&Disturbance::Purge),
            disturbances,
            horizon,
            sabotage: Sabotage::None,
            random,
        }
    }

    /// The same with a port that breaks its promise.
    pub(crate) fn sabotaged(self, sabotage: Sabotage) -> Self {
        Self {
            reconciled: self.reconciled && sabotage != Sabotage::NoReconciler,
            sabotage,
            ..self
        }
    }
}
