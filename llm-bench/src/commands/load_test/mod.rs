//! `llm-bench load-test`: from flags and environment to a run, and from the run to files, the terminal and the pipeline.

mod calibration;
mod compare;
mod environment;
mod llm_api;
mod merge;
mod outcome;
mod plan;
mod prepare;
mod publishing;
mod results;
mod results_dir;
mod run;
mod run_id;
mod share;
mod start_time;
mod stop_signal;
mod terminal;
mod tracking;

pub(crate) mod options;

pub(crate) use compare::run as compare;
pub(crate) use merge::run as merge;
pub(crate) use publishing::resume_publishing as publish;

use self::{
    environment::Environment, options::LoadTest, publishing::Publisher, terminal::note, tracking::Tracking,
};
use crate::context::{Context, UsageError};

pub(crate) async fn run(options: LoadTest, context: Context) -> anyhow::Result<()> {
    let environment = Environment::of(&context);
    let tracking = Tracking::from_options(&options, &environment)?;
    let stop = stop_signal::listen()?;
    let plan = plan::plan(&options, plan::draw_seed()?, plan::spare_cores()).map_err(UsageError)?;
    share::check(&options, &plan, context.clock.now())?;
    let prepared = tokio::select! {
        biased;
        prepared = prepare::prepare(&options, plan, &environment) => prepared?,
        () = stop.cancelled() => {
            // A download may take arbitrarily long, and nothing has been measured that could be kept.
            note("stopped before the run began");
            std::process::exit(stop_signal::INTERRUPTED);
        }
    };
    let calibration = calibration::measure(&options, &context, &prepared, stop.clone()).await?;
    if options.client.calibrate {
        return calibration::print(&options, calibration.as_ref());
    }
    let run_id = run_id::draw(&context)?;
    let mut publisher = Publisher::connect(&options, &context, &prepared.plan, &run_id).await?;
    let run = run::carry_out(&options, &context, &prepared, run_id, publisher.as_mut(), stop).await;
    let publication = match publisher {
        Some(publisher) => Some(
            publisher
                .finish(run.as_ref().ok().map(run::CompletedRun::records))
                .await,
        ),
        None => None,
    };
    let tracking = tracking.as_ref();
    outcome::conclude(
        &options,
        &context,
        tracking,
        &prepared,
        calibration,
        run?,
        publication,
    )
    .await
}
