//! The worker's side: shares of runs, one after another.

use std::{num::NonZeroU32, pin::pin, time::Duration};

use broker::{BoxError, ShareError, Shares, TakenShare};
use precise_time::MonotonicTime;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    ALIVE_EVERY, Contribution, SILENCE,
    messages::{CoordinatorSays, Job, Made, MessageError, WorkerName, WorkerSays, decode, encode},
};
use crate::report::build::with_sources;

/// Before the broker is tried again.
const RECONNECT_AFTER: Duration = Duration::from_secs(3);

/// What carries out a share: the same that carries out a run on one machine.
pub trait Runner: Send + Sync {
    /// What it has before the run.
    type Ready: Send;

    /// Makes all prompts of the job's plan, not only its share's, and measures the client where the job says so. `stop` ends it early.
    fn prepare(
        &self,
        job: &Job,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(Self::Ready, Made), BoxError>> + Send;

    /// Carries out the job's share ([`run_share`](crate::run::run_share)), from now on. `stop` ends it early, with what there is.
    fn run(
        &self,
        job: &Job,
        ready: Self::Ready,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<Contribution, BoxError>> + Send;
}

/// What a worker does, for who watches it.
#[derive(Debug)]
pub enum WorkerEvent<'a> {
    /// The broker is not there; it is tried again.
    NoBroker(&'a ShareError),
    /// It took a share.
    Took(&'a Job),
    /// It is over with it.
    Ended(Result<(), &'a WorkError>),
}

/// Why a worker did not carry out a share that it took.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The coordinator's message cannot be used.
    #[error("the coordinator's message cannot be used")]
    Message(#[from] MessageError),
    /// The broker or the coordinator is gone.
    #[error("the coordinator cannot be reached")]
    Coordinator(#[from] ShareError),
    /// The coordinator says nothing any more.
    #[error("the coordinator was silent for {} s", SILENCE.as_secs())]
    Silent,
    /// The coordinator stopped the run before it began.
    #[error("the coordinator gave the run up before it began")]
    GivenUp,
    /// Preparing or running failed.
    #[error("the share could not be carried out")]
    Run(#[source] BoxError),
}

/// Takes shares and carries them out, one at a time, until `stop`; a share that is running then is cut short, and what there is of it is
/// sent. A broker that is away is waited for.
pub async fn serve<R: Runner>(
    shares: &dyn Shares,
    runner: &R,
    worker: &WorkerName,
    stop: CancellationToken,
    mut hear: impl FnMut(WorkerEvent<'_>) + Send,
) {
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            taken = shares.take() => taken,
        };
        match taken {
            Ok(taken) => {
                // Boxed: it holds a contribution, which is some ten KiB.
                let ended = Box::pin(work(taken, runner, worker, &stop, &mut hear)).await;
                hear(WorkerEvent::Ended(ended.as_ref().copied()));
            }
            Err(error) => {
                hear(WorkerEvent::NoBroker(&error));
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = sleep(RECONNECT_AFTER) => {}
                }
            }
        }
    }
}

async fn work<R: Runner>(
    taken: Box<dyn TakenShare>,
    runner: &R,
    worker: &WorkerName,
    stop: &CancellationToken,
    hear: &mut (impl FnMut(WorkerEvent<'_>) + Send),
) -> Result<(), WorkError> {
    let mut conversation = Conversation::new(taken);
    let ended = match decode::<Job>(conversation.taken.offer()) {
        Ok(mut job) => {
            job.plan.client_cores = NonZeroU32::new(worker.cores).unwrap_or(NonZeroU32::MIN);
            hear(WorkerEvent::Took(&job));
            carry_out(&mut conversation, &job, runner, worker, stop).await
        }
        Err(error) => Err(error.into()),
    };
    let is_stopped = stop.is_cancelled() && matches!(ended, Ok(Ended::GaveBack));
    if let Err(error) = &ended {
        // Whoever is gone needs no reason.
        let _ = conversation
            .say(&WorkerSays::Failed {
                reason: with_sources(error),
            })
            .await;
    }
    if !is_stopped {
        // Also where it failed: with the next worker it would fail again. Where the broker is gone, it gives the share to that one, and the
        // coordinator, which has heard of the failure or of nobody, is gone from it too.
        let _ = conversation.taken.keep().await;
    }
    conversation.taken.close().await;
    ended.map(drop)
}

/// How a share ended without an error.
enum Ended {
    /// Its part is with the coordinator.
    Delivered,
    /// This worker was stopped before the run began; another may take it.
    GaveBack,
}

async fn carry_out<R: Runner>(
    conversation: &mut Conversation,
    job: &Job,
    runner: &R,
    worker: &WorkerName,
    stop: &CancellationToken,
) -> Result<Ended, WorkError> {
    let hello = WorkerSays::Hello {
        worker: worker.clone(),
        share: job.share,
    };
    conversation.say(&hello).await?;
    let preparation = stop.child_token();
    // Where the run is given up, preparing need not go on.
    let _given_up = preparation.clone().drop_guard();
    let prepared = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ended::GaveBack),
        prepared = runner.prepare(job, preparation) => prepared,
        heard = conversation.attend() => return Err(heard.map_or_else(|error| error, |_too_early| WorkError::GivenUp)),
    };
    let (ready, made) = prepared.map_err(WorkError::Run)?;
    conversation.say(&WorkerSays::Ready { made }).await?;
    let heard = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ended::GaveBack),
        heard = conversation.attend() => heard?,
    };
    let Heard::Start { due, delay } = heard else {
        return Err(WorkError::GivenUp);
    };
    conversation.taken.keep().await?;
    sleep(delay).await;
    let running = runner.run(job, ready, conversation.running(stop));
    let mut contribution = conversation.during(running).await.map_err(WorkError::Run)?;
    contribution.was_due(due);
    let contribution = Box::new(contribution);
    conversation.say(&WorkerSays::Part { contribution }).await?;
    Ok(Ended::Delivered)
}

/// What the coordinator wants.
enum Heard {
    Start { due: MonotonicTime, delay: Duration },
    Stop,
}

struct Conversation {
    taken: Box<dyn TakenShare>,
    alive: Interval,
    heard: Instant,
    /// Ends the run.
    cancel: CancellationToken,
}

impl Conversation {
    fn new(taken: Box<dyn TakenShare>) -> Self {
        let mut alive = interval(ALIVE_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            taken,
            alive,
            heard: Instant::now(),
            cancel: CancellationToken::new(),
        }
    }

    async fn say(&self, says: &WorkerSays) -> Result<(), WorkError> {
        Ok(self.taken.send(encode(says)).await?)
    }

    /// What ends the run early.
    fn running(&mut self, stop: &CancellationToken) -> CancellationToken {
        self.cancel = stop.child_token();
        self.cancel.clone()
    }

    /// Shows that this worker lives, and waits until the coordinator wants something.
    async fn attend(&mut self) -> Result<Heard, WorkError> {
        loop {
            tokio::select! {
                biased;
                said = self.taken.next() => {
                    let received = MonotonicTime::now();
                    self.heard = Instant::now();
                    match decode(&said?)? {
                        CoordinatorSays::Alive => {}
                        CoordinatorSays::Stop => return Ok(Heard::Stop),
                        CoordinatorSays::Start { delay_ms } => {
                            let delay = Duration::from_millis(delay_ms);
                            return Ok(Heard::Start { due: received + delay, delay });
                        }
                    }
                }
                _ = self.alive.tick() => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(WorkError::Silent);
                    }
                    self.say(&WorkerSays::Alive).await?;
                }
            }
        }
    }

    /// Says that the run began and attends to the coordinator while it goes on. A run that nobody waits for any more is cut short.
    async fn during<T>(&mut self, run: impl Future<Output = T>) -> T {
        let mut run = pin!(run);
        let cancel = self.cancel.clone();
        let mut attending = pin!(async {
            let attended = match self.say(&WorkerSays::Began).await {
                Ok(()) => self.attend().await,
                Err(error) => Err(error),
            };
            if let Err(error) = attended {
                tracing::warn!(error = with_sources(&error), "the run is cut short");
            }
            cancel.cancel();
            std::future::pending::<T>().await
        });
        tokio::select! {
            biased;
            ended = &mut run => ended,
            never = &mut attending => never,
        }
    }
}
