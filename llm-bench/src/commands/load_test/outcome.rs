use std::path::Path;

use anyhow::{Context as _, bail};
use load_test::{
    calibration::Calibration,
    report::{self, Inputs, Report, build::Header, model::WorkloadSection, text},
    verdict::{Verdict, judge_calibration},
};

use super::{
    Ready, eprint_line, error_limits,
    options::LoadTest,
    results,
    run::{Ended, results_dir},
    say_text, share,
    tracking::Tracking,
};
use crate::context::Context;

/// Makes the report, writes what is to be written, says how it went.
///
/// # Errors
/// What could not be written or published, and figures that are not valid: the exit status is 1 then.
pub(super) async fn conclude(
    options: &LoadTest,
    context: &Context,
    tracking: Option<&Tracking>,
    ready: &Ready,
    calibration: Option<Calibration>,
    ended: Ended,
) -> anyhow::Result<()> {
    let inputs = report_inputs(ready, calibration, &ended)?;
    let share_file = share::file(options, ready, &ended, &inputs);
    let report = report::build(inputs);
    let written = results::write(options, context, ready, &ended, &report, share_file.as_ref());
    show(&report, options.results.json)?;
    written?;
    let directory = results_dir(options)?;
    if let Some(directory) = directory {
        eprint_line(&format!("results: {}", directory.join("report.html").display()));
    }
    let published = published(&ended, directory);
    if let Some(tracking) = tracking {
        tracking.log(&report, context.clock.now(), directory).await?;
    }
    published?;
    judged(&report, options.client.allow_invalid)
}

pub(super) fn show(report: &Report, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        say_text(&serde_json::to_string_pretty(report)?);
    } else {
        say_text(&text::summary(report));
    }
    Ok(())
}

/// Figures that are partly the client's are a failure, unless the user says otherwise; a run that is not complete always is.
pub(super) fn judged(report: &Report, allow_invalid: bool) -> anyhow::Result<()> {
    if let Some(problem) = report.problems.first() {
        bail!("the run is not complete: {problem}");
    }
    if report.requests.ok == 0 {
        bail!("no request was answered: there are no figures");
    }
    if report.client_error.verdict == Verdict::Valid || allow_invalid {
        return Ok(());
    }
    bail!("INVALID: {}", report.client_error.reasons.join("; "));
}

fn report_inputs<'a>(
    ready: &Ready,
    calibration: Option<Calibration>,
    ended: &'a Ended,
) -> anyhow::Result<Inputs<'a>> {
    let facts = serde_json::to_value(&ready.prepared.facts)?;
    let header = Header {
        run_id: ended.run_id.clone(),
        workload: WorkloadSection {
            plan: ready.plan.clone(),
            tokenizer: ready.tokenizer.describe().id.clone(),
            facts: facts.as_object().cloned().unwrap_or_default(),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host(),
        started_at: ended.facts.started_at,
        calibration,
    };
    Ok(Inputs {
        header,
        facts: &ended.facts,
        recorded: &ended.recorded,
        limits: error_limits(),
    })
}

fn published(ended: &Ended, directory: Option<&Path>) -> anyhow::Result<()> {
    match &ended.publication {
        None => Ok(()),
        Some(Ok(published)) => {
            eprint_line(&format!(
                "published {} values in {} batches as run {}: llm-bench rankings --source measured",
                published.values, published.batches, ended.run_id
            ));
            Ok(())
        }
        Some(Err(error)) => {
            let rest = directory.map_or_else(
                || "the rest is lost, as there is no --results-dir".to_owned(),
                |directory| format!("`llm-bench publish {}` goes on", directory.display()),
            );
            let message = format!("not everything was published ({rest}): {error:#}");
            eprint_line(&message);
            bail!(message)
        }
    }
}

/// What `--calibrate` says.
pub(super) fn calibration_only(options: &LoadTest, calibration: Option<&Calibration>) -> anyhow::Result<()> {
    let calibration = calibration.context("no calibration")?;
    if options.results.json {
        say_text(&serde_json::to_string_pretty(calibration)?);
    } else {
        say_text(&text::calibration(calibration));
    }
    let reasons = judge_calibration(calibration, &error_limits());
    if !reasons.is_empty() && !options.client.allow_invalid {
        bail!("INVALID: {}", reasons.join(" "));
    }
    Ok(())
}

/// The machine's name, or nothing where it has none that can be read.
fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}
