//! A run on several machines: `--workers N` on one, `--worker` on the others.

use std::num::NonZeroU32;

use broker::BoxError;
use load_test::{
    plan::Plan,
    report::{self, build::with_sources},
    workers::{
        self, Contribution, CoordinateError, Coordination, CoordinatorEvent, Job, Made, Runner, WorkerEvent,
        WorkerName, digest,
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    Ready, calibrated,
    environment::Environment,
    eprint_line,
    options::LoadTest,
    outcome::{self, host, report_inputs},
    prepare, results, run, spare_cores,
};
use crate::context::{Context, WrongInput};

/// Shares the run out and concludes it.
pub(super) async fn coordinate(
    options: &LoadTest,
    context: &Context,
    plan: Plan,
    number: NonZeroU32,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let shares = context.shares()?;
    let asked = Coordination {
        run_id: run::new_run_id(context)?,
        plan,
        workers: number,
        worker_timeout: options.results.worker_timeout,
        tokenizer_id: options.tokenizer_id.clone(),
        calibrate: !options.client.no_calibration,
        stream_usage: !options.workload.no_stream_usage,
    };
    eprint_line(&format!("waiting for {number} workers ..."));
    let merged = workers::coordinate(&*shares, &asked, &*context.clock, stop, |event| {
        eprint_line(&match event {
            CoordinatorEvent::Joined(worker) => format!("{} on {} prepares", worker.name, worker.host),
            CoordinatorEvent::Left(worker) => format!("{} has gone; its share is offered again", worker.name),
            CoordinatorEvent::Ready(worker) => format!("{} is ready", worker.name),
            CoordinatorEvent::Started => "the run begins".to_owned(),
            CoordinatorEvent::Done(worker) => format!("{} is done", worker.name),
            CoordinatorEvent::Lost(worker, reason) => format!("{} is lost: {reason}", worker.name),
        });
    });
    let merged = merged.await.map_err(|error| match error {
        CoordinateError::TooMany(_) => WrongInput(error.into()).into(),
        error => anyhow::Error::from(error),
    })?;
    outcome::conclude_merged(options, context, &merged)
}

/// Works until it is stopped.
pub(super) async fn serve(
    options: &LoadTest,
    context: &Context,
    environment: &Environment,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let shares = context.shares()?;
    let worker = WorkerName {
        name: options
            .results
            .worker_name
            .clone()
            .unwrap_or_else(|| format!("{}-{}", host(), std::process::id())),
        host: host(),
        cores: options.client.client_cores.unwrap_or_else(spare_cores).get(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let runner = ThisMachine {
        options,
        context,
        environment,
    };
    eprint_line(&format!("{} waits for shares of runs", worker.name));
    workers::serve(&*shares, &runner, &worker, stop, |event| match event {
        WorkerEvent::NoBroker(error) => eprint_line(&with_sources(error)),
        WorkerEvent::Took(job) => eprint_line(&format!(
            "share {} of {} of run {}",
            job.share.number() + 1,
            job.share.of(),
            job.run_id
        )),
        WorkerEvent::Ended(Ok(())) => eprint_line("done; waiting for the next"),
        WorkerEvent::Ended(Err(error)) => eprint_line(&with_sources(error)),
    })
    .await;
    Ok(())
}

/// What a run on this machine alone uses, too.
struct ThisMachine<'a> {
    options: &'a LoadTest,
    context: &'a Context,
    environment: &'a Environment,
}

impl Runner for ThisMachine<'_> {
    type Ready = (Ready, Option<load_test::calibration::Calibration>);

    async fn prepare(&self, job: &Job, stop: CancellationToken) -> Result<(Self::Ready, Made), BoxError> {
        let mut options = self.options.clone();
        options.tokenizer_id.clone_from(&job.tokenizer_id);
        options.workload.no_stream_usage = !job.stream_usage;
        let mut ready = prepare(&options, job.plan.clone(), self.environment).await?;
        ready.share = job.share;
        let calibration = if job.calibrate {
            Some(calibrated(&ready, self.context, stop).await?)
        } else {
            None
        };
        let facts = serde_json::to_value(&ready.prepared.facts)?;
        let made = Made {
            tokenizer: ready.tokenizer.describe().id.clone(),
            prompts: digest(ready.requests.iter().map(|request| &*request.body)),
            facts: facts.as_object().cloned().unwrap_or_default(),
        };
        Ok(((ready, calibration), made))
    }

    async fn run(
        &self,
        job: &Job,
        (ready, calibration): Self::Ready,
        stop: CancellationToken,
    ) -> Result<Contribution, BoxError> {
        let (mut options, context) = (self.options.clone(), self.context);
        if !options.results_dir.is_empty() {
            // Each share's own: a worker does many, and workers may share a directory.
            let folder = format!("{}-share-{}", job.run_id, job.share.number() + 1);
            options.results_dir = std::path::Path::new(&options.results_dir).join(folder).into();
        }
        let options = &options;
        let ended = run::carry_out(options, context, &ready, job.run_id.clone(), None, stop).await?;
        let inputs = report_inputs(&ready, calibration, &ended)?;
        let mut contribution = Contribution::new(&inputs);
        if let Err(error) = results::write(options, context, &ready, &ended, &report::build(inputs)) {
            contribution.part.problems.push(format!("{error:#}"));
        }
        Ok(contribution)
    }
}
