//! What everything in a simulation shares: the seed's choices, the virtual clock, the trace, the plan of crashes.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use shared_types::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    event_counts::{Event, EventCounts},
    faults::Faults,
    random::Random,
};

/// When processes crash. Points are numbered from 1 in the order in which they are reached.
#[derive(Debug, Clone)]
pub(crate) enum CrashPlan {
    /// At exactly these points.
    At(BTreeSet<u64>),
    /// At any point with this probability, in 1 of 10 000, and so many times at the most.
    Randomly { per_ten_thousand: u64, most: u32 },
}

/// Every event of a run in one number; the events themselves only where somebody will read them.
#[derive(Debug)]
struct Trace {
    hash: u64,
    line: String,
    kept: Option<Vec<String>>,
}

impl Trace {
    /// FNV-1a.
    fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.line.clear();
        write!(self.line, "{:>8} ms  {what}", at.as_millis()).expect("a String takes everything");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(kept) = &mut self.kept {
            kept.push(self.line.clone());
        }
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    faults: Faults,
    crashes: CrashPlan,
    points: u64,
    trace: Trace,
    event_counts: EventCounts,
    violations: Vec<String>,
}

/// See the module. Every lock is short, and nothing waits while it holds one.
#[derive(Debug)]
pub(crate) struct World {
    state: Mutex<State>,
    started: Instant,
}

/// What a run leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) trace_hash: u64,
    /// The whole trace, where it was kept.
    pub(crate) trace: Vec<String>,
    /// The points of interaction that were reached.
    pub(crate) points: u64,
    pub(crate) event_counts: EventCounts,
    pub(crate) violations: Vec<String>,
}

impl World {
    /// Begins now, by tokio's clock, which must be paused.
    pub(crate) fn new(random: Random, faults: Faults, crashes: CrashPlan, keep_trace: bool) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            state: Mutex::new(State {
                random,
                faults,
                crashes,
                points: 0,
                trace: Trace {
                    hash: 0xcbf2_9ce4_8422_2325,
                    line: String::new(),
                    kept: keep_trace.then(Vec::new),
                },
                event_counts: EventCounts::default(),
                violations: Vec::new(),
            }),
        })
    }

    /// Virtual time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let at = self.elapsed();
        self.lock().trace.note(at, what);
    }

    pub(crate) fn count(&self, event: Event) {
        self.count_many(event, 1);
    }

    pub(crate) fn count_many(&self, event: Event, times: u64) {
        self.lock().event_counts.add(event, times);
    }

    pub(crate) fn violated(&self, what: String) {
        self.note(format_args!("VIOLATED: {what}"));
        self.lock().violations.push(what);
    }

    /// Asks for a choice.
    pub(crate) fn choose<T>(&self, choice: impl FnOnce(&mut Random, &Faults) -> T) -> T {
        let state = &mut *self.lock();
        choice(&mut state.random, &state.faults)
    }

    pub(crate) fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.lock().faults)
    }

    /// No fault and no crash from here on.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.faults = Faults::default();
        state.crashes = CrashPlan::At(BTreeSet::new());
    }

    /// The points of interaction that were reached.
    pub(crate) fn points(&self) -> u64 {
        self.lock().points
    }

    pub(crate) fn record(&self) -> Record {
        let mut state = self.lock();
        Record {
            trace_hash: state.trace.hash,
            trace: state.trace.kept.take().unwrap_or_default(),
            points: state.points,
            event_counts: state.event_counts.clone(),
            violations: state.violations.clone(),
        }
    }

    /// Counts a point and tells whether the process that reached it crashes there.
    fn crashes_here(&self) -> bool {
        let state = &mut *self.lock();
        state.points += 1;
        match &mut state.crashes {
            CrashPlan::At(points) => points.contains(&state.points),
            CrashPlan::Randomly { most: 0, .. } => false,
            CrashPlan::Randomly {
                per_ten_thousand,
                most,
            } => {
                let crashes = state.random.next() % 10_000 < *per_ten_thousand;
                *most -= u32::from(crashes);
                crashes
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for World {
    /// A little before a full hour, so that runs cross it.
    fn now(&self) -> DateTime<Utc> {
        let start = DateTime::UNIX_EPOCH + TimeDelta::hours(480_000) - TimeDelta::seconds(20);
        start + TimeDelta::from_std(self.elapsed()).expect("less than years")
    }
}

/// One life of a process. A crash is what `kill -9` looks like from outside: from that point on nothing that the
/// process does has an effect, no call that it has made returns, and no destructor of its reaches anybody. Its
/// futures stay behind until the end of the run, deaf and mute.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    /// Different for every life of every process.
    pub(crate) number: u64,
    pub(crate) world: Arc<World>,
    dead: CancellationToken,
}

impl Process {
    pub(crate) fn new(name: String, number: u64, world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            name,
            number,
            world: Arc::clone(world),
            dead: CancellationToken::new(),
        })
    }

    /// A point at which the process touches the world, and may crash.
    pub(crate) async fn point(&self, what: &'static str, moment: &'static str) {
        if !self.is_dead() && self.world.crashes_here() {
            self.world
                .note(format_args!("{} CRASHES {moment} {what}", self.name));
            self.kill();
        }
        self.unless_dead().await;
    }

    /// Virtual time passes on the way to a server and back.
    pub(crate) async fn travel(&self) {
        let time = self.world.choose(|random, faults| {
            if random.chance(faults.slow) {
                random.duration(faults.slowest)
            } else {
                random.duration(faults.latency)
            }
        });
        self.wait(time).await;
    }

    /// Virtual time passes.
    pub(crate) async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.unless_dead().await;
    }

    /// Returns only in a process that lives.
    pub(crate) async fn unless_dead(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    pub(crate) fn kill(&self) {
        if !self.is_dead() {
            self.world.count(Event::Crash);
            self.dead.cancel();
        }
    }

    /// Stops without counting as a crash: the process has ended orderly.
    pub(crate) fn ended(&self) {
        self.dead.cancel();
    }

    pub(crate) async fn died(&self) {
        self.dead.cancelled().await;
    }
}
