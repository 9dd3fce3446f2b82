//! `llm-bench load-test`: from flags and environment to a run, and from the run to files, the terminal and the pipeline.

mod compare;
mod environment;
mod llm_api;
mod merge;
mod outcome;
mod plan;
mod publishing;
mod results;
mod run;
mod share;
mod tracking;

pub(crate) mod options;

pub(crate) use compare::run as compare;
pub(crate) use merge::run as merge;
pub(crate) use publishing::again as publish;

use std::{num::NonZeroU32, sync::Arc};

use anyhow::Context as _;
use load_test::{
    calibration::{Calibration, calibrate},
    plan::Plan,
    run::EncodedRequest,
    share::{Share, load_of},
    tokens::{self, Tokenizer, TokenizerError},
    verdict::ErrorLimits,
    workload::{self, Prepared, WorkloadError},
};
use rand::TryRng;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::{environment::Environment, options::LoadTest, tracking::Tracking};
use crate::{
    context::{Context, UsageError, WrongInput},
    say::say,
};

pub(crate) async fn run(options: LoadTest, context: Context) -> anyhow::Result<()> {
    let environment = Environment::of(&context);
    let tracking = Tracking::asked_for(&options, &environment)?;
    let stop = stop_at_signal()?;
    let plan = plan::plan(&options, drawn_seed()?, spare_cores()).map_err(UsageError)?;
    share::check(&options, &plan, context.clock.now())?;
    let ready = tokio::select! {
        biased;
        ready = prepare(&options, plan, &environment) => ready?,
        () = stop.cancelled() => {
            // A download has no end that can be waited for, and nothing has been measured.
            eprint_line("stopped before the run began");
            std::process::exit(130);
        }
    };
    if let Some(note) = &ready.tokenizer.describe().note {
        eprint_line(&format!(
            "tokens are counted with {}: {note}",
            ready.tokenizer.describe().id
        ));
    }
    let calibration = if options.client.no_calibration {
        None
    } else {
        eprint_line("measuring the client itself ...");
        Some(calibrated(&ready, &context, stop.clone()).await?)
    };
    if options.client.calibrate {
        return outcome::calibration_only(&options, calibration.as_ref());
    }
    let mut publisher = publishing::Publisher::connect(&options, &context, &ready.plan).await?;
    let run_id = publisher.as_ref().map_or_else(
        || run::new_run_id(&context),
        |publisher| Ok(publisher.run_id().to_owned()),
    )?;
    let run = run::carry_out(&options, &context, &ready, run_id, publisher.as_mut(), stop).await;
    let ended = match publisher {
        Some(publisher) => publisher.end(run).await?,
        None => run?,
    };
    outcome::conclude(&options, &context, tracking.as_ref(), &ready, calibration, ended).await
}

/// Everything that a run needs, made before it.
pub(super) struct Ready {
    pub(super) plan: Plan,
    pub(super) endpoint: llm_client::Endpoint,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) prepared: Prepared,
    pub(super) requests: Arc<[EncodedRequest]>,
    /// Which part of the plan this process does.
    pub(super) share: Share,
}

/// Chooses the tokenizer, makes the prompts and writes the requests' bodies: on threads of their own, it takes seconds.
async fn prepare(options: &LoadTest, plan: Plan, environment: &Environment) -> anyhow::Result<Ready> {
    let endpoint = environment.endpoint(plan.api, options.workload.no_stream_usage)?;
    eprint_line(&format!("load test of {} at {}", plan.model, endpoint.place()));
    let (named, hub) = (options.tokenizer_id.clone(), environment.hub());
    let share = options.sharing.share.unwrap_or(Share::WHOLE);
    let made = spawn_blocking(move || {
        let tokenizer = tokens::choose(named.as_deref(), &plan.model, &hub).map_err(of_tokenizer)?;
        let prepared = workload::prepare(&plan, &tokenizer).map_err(of_workload)?;
        let encode = |request: &workload::PreparedRequest| {
            let (tokens, limit) = (request.prompt_tokens, request.max_tokens);
            let encoded =
                |prompt: llm_client::Prompt<'_>| EncodedRequest::new(&endpoint, &plan, prompt, tokens, limit);
            request.prompt.with_prompt(encoded)
        };
        let requests = prepared.requests.iter().map(encode).collect();
        anyhow::Ok(Ready {
            plan,
            endpoint,
            tokenizer: Arc::new(tokenizer),
            prepared,
            requests,
            share,
        })
    });
    made.await.context("preparing the workload")?
}

/// A tokenizer that is not what it was said to be, as opposed to one that cannot be had now.
fn of_tokenizer(error: TokenizerError) -> anyhow::Error {
    match error {
        TokenizerError::Unknown { .. } | TokenizerError::Read { .. } | TokenizerError::Parse { .. } => {
            WrongInput(error.into()).into()
        }
        unavailable => unavailable.into(),
    }
}

/// Files and settings are the user's.
fn of_workload(error: WorkloadError) -> anyhow::Error {
    match error {
        WorkloadError::Tokenizer(error) => error.into(),
        wrong => WrongInput(wrong.into()).into(),
    }
}

async fn calibrated(
    ready: &Ready,
    context: &Context,
    stop: CancellationToken,
) -> anyhow::Result<Calibration> {
    let (plan, requests) = (load_of(&ready.plan, ready.share), Arc::clone(&ready.requests));
    let (trace, clock) = (ready.offsets(), Arc::clone(&context.clock));
    let calibrating = spawn_blocking(move || calibrate(&plan, &requests, &trace, clock, stop));
    calibrating
        .await?
        .context("the client could not measure itself; --no-calibration runs without")
}

impl Ready {
    pub(super) fn offsets(&self) -> Arc<[std::time::Duration]> {
        self.prepared.offsets.clone().unwrap_or_default()
    }
}

/// Cancelled by the first SIGINT or SIGTERM: what has been measured is kept. The second ends the process at once.
fn stop_at_signal() -> anyhow::Result<CancellationToken> {
    let mut signals = service_runtime::lifecycle::Signals::listen().context("listening for signals")?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        eprint_line("stopping: what is in flight is cancelled; once more to stop at once");
        stopped.cancel();
        signals.next().await;
        std::process::exit(130);
    });
    Ok(stop)
}

/// One core is left to the rest of the machine, such as a server under test.
fn spare_cores() -> NonZeroU32 {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spared = u32::try_from(all.saturating_sub(1)).unwrap_or(u32::MAX);
    NonZeroU32::new(spared).unwrap_or(NonZeroU32::MIN)
}

fn drawn_seed() -> anyhow::Result<u64> {
    rand::rngs::SysRng.try_next_u64().context("drawing a seed")
}

/// For people who watch: results alone go to standard output.
pub(super) fn eprint_line(text: &str) {
    eprintln!("{}", printable(text));
}

/// A limit of the client's own error that suits the load.
pub(super) fn error_limits() -> ErrorLimits {
    ErrorLimits::default()
}

pub(super) fn say_text(text: &str) {
    say!("{}", printable(text.trim_end()));
}

/// Servers say some of it: their control characters are none of this terminal's.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}
