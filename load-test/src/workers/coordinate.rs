//! The coordinator's side: offers the shares, starts the workers together, and waits for their parts.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use broker::{FromWorker, OfferedShares, Shares, WorkerAddress};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use precise_time::MonotonicTime;
use shared_types::Clock;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    ALIVE_EVERY, Contribution, Merged, SILENCE, Share, check,
    error::CoordinateError,
    messages::{CoordinatorSays, Job, Made, WorkerName, WorkerSays, decode, encode},
};
use crate::{
    plan::Plan,
    report::{build::with_sources, model::WorkerSection},
};

/// From "start" to the start: long enough for the message to reach all workers.
const START_DELAY: Duration = Duration::from_millis(500);
/// What a worker may need, once its run is over at the latest, to count tokens and to make its part.
const PART_PATIENCE: Duration = Duration::from_secs(120);

/// A run that is to be shared out.
#[derive(Debug, Clone)]
pub struct Coordination {
    /// Identifies the run.
    pub run_id: String,
    /// The whole run.
    pub plan: Plan,
    /// How many workers share it.
    pub workers: NonZeroU32,
    /// How long they may take to come.
    pub worker_timeout: Duration,
    /// What tokens are counted with, where the user says.
    pub tokenizer_id: Option<String>,
    /// Whether each worker measures its own error before the run.
    pub calibrate: bool,
    /// Whether streams are asked for usage.
    pub stream_usage: bool,
}

/// What happens, for who watches the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorEvent<'a> {
    /// A worker came, and prepares.
    Joined(&'a WorkerName),
    /// A worker went away before the run; another may take its share.
    Left(&'a WorkerName),
    /// A worker can begin.
    Ready(&'a WorkerName),
    /// All are told to begin.
    Started,
    /// A worker's part has come.
    Done(&'a WorkerName),
    /// A worker is lost.
    Lost(&'a WorkerName, &'a str),
}

/// Shares a run out among workers that take part over the broker, and merges their parts.
///
/// No share is carried out twice: a worker that goes away before the run begins is replaced by another; one that is lost later is missing,
/// and the report says so. `stop` ends the run early, with what the workers have.
///
/// # Errors
/// There was no run, or no worker's part came.
pub async fn coordinate(
    shares: &dyn Shares,
    asked: &Coordination,
    clock: &dyn Clock,
    stop: CancellationToken,
    hear: impl FnMut(CoordinatorEvent<'_>) + Send,
) -> Result<Merged, CoordinateError> {
    check(&asked.plan, asked.workers)?;
    let offers = Share::all(asked.workers).map(|share| encode(&asked.job(share)));
    let offered = shares
        .offer(&asked.run_id, offers.collect(), asked.worker_timeout)
        .await?;
    let mut coordinator = Coordinator::new(asked, offered, stop, hear);
    // Boxed: it holds contributions, each some ten KiB.
    let ended = Box::pin(coordinator.run(clock)).await;
    if ended.is_err() {
        coordinator.stop_all().await;
    }
    coordinator.offered.close().await;
    ended
}

impl Coordination {
    fn job(&self, share: Share) -> Job {
        Job {
            run_id: self.run_id.clone(),
            share,
            plan: self.plan.clone(),
            tokenizer_id: self.tokenizer_id.clone(),
            calibrate: self.calibrate,
            stream_usage: self.stream_usage,
        }
    }
}

/// A worker that took a share.
struct Member {
    address: WorkerAddress,
    worker: WorkerName,
    stage: Stage,
    heard: Instant,
    /// From the moment at which all were to begin until it was heard that it did.
    began_within: Option<Duration>,
}

enum Stage {
    Preparing,
    Ready(Made),
    Running,
    Done(Box<Contribution>),
    Lost(String),
}

impl Member {
    fn is_awaited(&self) -> bool {
        !matches!(self.stage, Stage::Done(_) | Stage::Lost(_))
    }
}

struct Coordinator<'a, H> {
    asked: &'a Coordination,
    offered: Box<dyn OfferedShares>,
    stop: CancellationToken,
    hear: H,
    alive: Interval,
    /// By the number of their shares.
    members: BTreeMap<u32, Member>,
    /// Who went away before the run, by the number of the share.
    left: BTreeMap<u32, Vec<String>>,
    /// Where they were: what comes from there still is of no interest.
    left_from: Vec<WorkerAddress>,
}

impl<'a, H: FnMut(CoordinatorEvent<'_>) + Send> Coordinator<'a, H> {
    fn new(
        asked: &'a Coordination,
        offered: Box<dyn OfferedShares>,
        stop: CancellationToken,
        hear: H,
    ) -> Self {
        let mut alive = interval(ALIVE_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            asked,
            offered,
            stop,
            hear,
            alive,
            members: BTreeMap::new(),
            left: BTreeMap::new(),
            left_from: Vec::new(),
        }
    }

    async fn run(&mut self, clock: &dyn Clock) -> Result<Merged, CoordinateError> {
        let made = self.gather().await?;
        let (started_at, due) = self.start(clock).await;
        self.follow(due).await;
        self.merged(made, started_at)
    }

    /// Until all shares have a worker that is ready.
    async fn gather(&mut self) -> Result<Made, CoordinateError> {
        let expected = self.asked.workers;
        let deadline = Instant::now() + self.asked.worker_timeout;
        loop {
            let is_full = self.members.len() == expected.get() as usize;
            if is_full && let Some(made) = self.made()? {
                return Ok(made);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(CoordinateError::Stopped),
                said = self.offered.next() => {
                    let FromWorker { from, body } = said?;
                    self.said_before_the_run(from, decode(&body)?)?;
                }
                _ = self.alive.tick() => {
                    for (number, _) in self.unreachable().await {
                        self.leave(number);
                    }
                }
                () = sleep_until(deadline), if !is_full => {
                    let came = self.members.values().map(|member| member.worker.clone());
                    let (came, within) = (came.collect(), self.asked.worker_timeout);
                    return Err(CoordinateError::TooFew { came, expected, within });
                }
            }
        }
    }

    fn said_before_the_run(&mut self, from: WorkerAddress, says: WorkerSays) -> Result<(), CoordinateError> {
        if let WorkerSays::Hello { worker, share } = says {
            if share.of() == self.asked.workers {
                self.join(from, worker, share.number());
            }
            return Ok(());
        }
        let Some(member) = self.members.values_mut().find(|member| member.address == from) else {
            return match says {
                // Such as an offer that an older version does not understand.
                WorkerSays::Failed { reason } if !self.left_from.contains(&from) => {
                    Err(CoordinateError::Refused { reason })
                }
                _ => Ok(()),
            };
        };
        member.heard = Instant::now();
        match says {
            WorkerSays::Ready { made } => {
                member.stage = Stage::Ready(made);
                (self.hear)(CoordinatorEvent::Ready(&member.worker));
            }
            WorkerSays::Failed { reason } => {
                let worker = member.worker.clone();
                return Err(CoordinateError::Failed { worker, reason });
            }
            WorkerSays::Hello { .. } | WorkerSays::Alive | WorkerSays::Began | WorkerSays::Part { .. } => {}
        }
        Ok(())
    }

    /// The broker gives a share to another worker only when the one before has gone, which it may know sooner than we do.
    fn join(&mut self, address: WorkerAddress, worker: WorkerName, number: u32) {
        self.leave(number);
        (self.hear)(CoordinatorEvent::Joined(&worker));
        let member = Member {
            address,
            worker,
            stage: Stage::Preparing,
            heard: Instant::now(),
            began_within: None,
        };
        self.members.insert(number, member);
    }

    fn leave(&mut self, number: u32) {
        if let Some(member) = self.members.remove(&number) {
            (self.hear)(CoordinatorEvent::Left(&member.worker));
            self.left.entry(number).or_default().push(member.worker.name);
            self.left_from.push(member.address);
        }
    }

    /// What all have made, once all are ready.
    fn made(&self) -> Result<Option<Made>, CoordinateError> {
        let mut first: Option<(&WorkerName, &Made)> = None;
        for member in self.members.values() {
            let Stage::Ready(made) = &member.stage else {
                return Ok(None);
            };
            let (one, one_made) = *first.get_or_insert((&member.worker, made));
            if (&one_made.prompts, &one_made.tokenizer) != (&made.prompts, &made.tokenizer) {
                return Err(CoordinateError::Differ {
                    workers: [one, &member.worker].map(|worker| worker.name.clone()),
                    tokenizers: [one_made, made].map(|made| made.tokenizer.clone()),
                });
            }
        }
        Ok(first.map(|(_, made)| made.clone()))
    }

    /// Tells all to begin at one moment, by each one's own clock; gives that moment.
    async fn start(&mut self, clock: &dyn Clock) -> (DateTime<Utc>, MonotonicTime) {
        let delay_ms = u64::try_from(START_DELAY.as_millis()).unwrap_or(u64::MAX);
        let start = encode(&CoordinatorSays::Start { delay_ms });
        let started_at = clock.now() + START_DELAY;
        let due = MonotonicTime::now() + START_DELAY;
        let telling = self.members.iter().map(|(number, member)| {
            let told = self.offered.send(&member.address, start.clone());
            async { (*number, told.await) }
        });
        let told = join_all(telling).await;
        for member in self.members.values_mut() {
            member.stage = Stage::Running;
        }
        (self.hear)(CoordinatorEvent::Started);
        for (number, told) in told {
            if let Err(error) = told {
                self.lose(number, with_sources(&error));
            }
        }
        (started_at, due)
    }

    /// Until all parts have come, or will not come.
    async fn follow(&mut self, due: MonotonicTime) {
        let stop_at = self.asked.plan.stop;
        let mut deadline = Instant::now() + START_DELAY + stop_at.send_for + stop_at.drain + PART_PATIENCE;
        let mut is_stopping = false;
        while self.members.values().any(Member::is_awaited) {
            tokio::select! {
                biased;
                said = self.offered.next() => match said {
                    Ok(said) => self.said_during_the_run(said, due).await,
                    Err(error) => self.lose_all(&with_sources(&error)),
                },
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    deadline = deadline.min(Instant::now() + PART_PATIENCE);
                    self.stop_all().await;
                }
                _ = self.alive.tick() => {
                    for (number, reason) in self.unreachable().await {
                        self.lose(number, reason);
                    }
                }
                () = sleep_until(deadline) => {
                    self.lose_all(&format!("its part did not come within {} s of the run's end", PART_PATIENCE.as_secs()));
                }
            }
        }
    }

    async fn said_during_the_run(&mut self, FromWorker { from, body }: FromWorker, due: MonotonicTime) {
        let heard = MonotonicTime::now();
        let known = self.members.iter_mut().find(|(_, member)| member.address == from);
        let Some((&number, member)) = known.filter(|(_, member)| member.is_awaited()) else {
            // Somebody took a share that was given back too late. It must not be done twice.
            let stop = encode(&CoordinatorSays::Stop);
            // Where it cannot be told, it finds nobody to begin with.
            let _ = self.offered.send(&from, stop).await;
            return;
        };
        member.heard = Instant::now();
        match decode(&body) {
            Ok(WorkerSays::Began) => member.began_within = Some(heard.saturating_since(due)),
            Ok(WorkerSays::Part { contribution }) => {
                (self.hear)(CoordinatorEvent::Done(&member.worker));
                member.stage = Stage::Done(contribution);
            }
            Ok(WorkerSays::Failed { reason }) => self.lose(number, reason),
            Ok(WorkerSays::Alive | WorkerSays::Hello { .. } | WorkerSays::Ready { .. }) => {}
            Err(error) => self.lose(number, with_sources(&error)),
        }
    }

    /// Shows all that are awaited that the coordinator lives; gives those that do not, and why.
    async fn unreachable(&self) -> Vec<(u32, String)> {
        let alive = encode(&CoordinatorSays::Alive);
        let asking = self.members.iter().filter(|(_, member)| member.is_awaited());
        let asking = asking.map(|(number, member)| {
            let told = self.offered.send(&member.address, alive.clone());
            async move {
                match told.await {
                    Err(error) => Some((*number, with_sources(&error))),
                    Ok(()) if member.heard.elapsed() > SILENCE => {
                        Some((*number, format!("it was silent for {} s", SILENCE.as_secs())))
                    }
                    Ok(()) => None,
                }
            }
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    async fn stop_all(&self) {
        let stop = encode(&CoordinatorSays::Stop);
        let awaited = self.members.values().filter(|member| member.is_awaited());
        // Who cannot be told notices by himself, or is found missing.
        let _ = join_all(awaited.map(|member| self.offered.send(&member.address, stop.clone()))).await;
    }

    fn lose(&mut self, number: u32, reason: String) {
        if let Some(member) = self.members.get_mut(&number).filter(|member| member.is_awaited()) {
            (self.hear)(CoordinatorEvent::Lost(&member.worker, &reason));
            member.stage = Stage::Lost(reason);
        }
    }

    fn lose_all(&mut self, reason: &str) {
        let numbers: Vec<u32> = self.members.keys().copied().collect();
        for number in numbers {
            self.lose(number, reason.to_owned());
        }
    }

    fn merged(&mut self, made: Made, started_at: DateTime<Utc>) -> Result<Merged, CoordinateError> {
        let mut sections = Vec::new();
        let mut contributions = Vec::new();
        let mut members = std::mem::take(&mut self.members);
        for share in Share::all(self.asked.workers) {
            let Some(member) = members.remove(&share.number()) else {
                continue;
            };
            let within_s = member.began_within.map(|within| within.as_secs_f64());
            let section = match &member.stage {
                Stage::Done(contribution) => contribution.section(&member.worker, share, within_s),
                Stage::Lost(reason) => super::contribution::lost(&member.worker, share, reason.clone()),
                Stage::Preparing | Stage::Ready(_) | Stage::Running => continue,
            };
            sections.push(WorkerSection {
                left_before_start: self.left.remove(&share.number()).unwrap_or_default(),
                ..section
            });
            if let Stage::Done(contribution) = member.stage {
                contributions.push((member.worker, *contribution));
            }
        }
        Merged::new(self.asked, made, started_at, sections, contributions)
    }
}
