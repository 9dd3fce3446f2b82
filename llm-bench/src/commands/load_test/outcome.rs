use std::path::Path;

use anyhow::bail;
use load_test::{
    calibration::Calibration,
    publish::PublishedTotals,
    report::{self, Report, ReportInputs, build::ReportHeader, model::WorkloadSection, text},
    verdict::{ErrorLimits, Verdict},
};

use super::{
    options::LoadTest,
    prepare::PreparedRun,
    results,
    results_dir::results_dir,
    run::CompletedRun,
    share,
    terminal::{note, print_result},
    tracking::Tracking,
};
use crate::context::Context;

/// Makes the report, writes the result files, logs to MLflow and prints the summary.
///
/// # Errors
/// Where something could not be written, published or logged, or the figures are not valid: the exit status is 1 then.
pub(super) async fn conclude(
    options: &LoadTest,
    context: &Context,
    tracking: Option<&Tracking>,
    prepared: &PreparedRun,
    calibration: Option<Calibration>,
    run: CompletedRun,
    publication: Option<anyhow::Result<PublishedTotals>>,
) -> anyhow::Result<()> {
    let inputs = report_inputs(prepared, calibration, &run)?;
    let share_file = share::file(options, prepared, run.clock, &inputs);
    let report = report::build(inputs);
    let written = results::write(options, context, prepared, &run, &report, share_file.as_deref());
    show(&report, options.results.json)?;
    written?;
    let directory = results_dir(options)?;
    if let Some(directory) = directory {
        note(&format!("results: {}", directory.join("report.html").display()));
    }
    let published = report_publication(&run.run_id, publication, directory);
    if let Some(tracking) = tracking {
        tracking.log(&report, context.clock.now(), directory).await?;
    }
    published?;
    judged(&report, options.client.allow_invalid)
}

pub(super) fn show(report: &Report, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        print_result(&serde_json::to_string_pretty(report)?);
    } else {
        print_result(&text::summary(report));
    }
    Ok(())
}

/// Fails for a run that is not complete, and for an invalid one unless the user allows it.
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
    prepared: &PreparedRun,
    calibration: Option<Calibration>,
    run: &'a CompletedRun,
) -> anyhow::Result<ReportInputs<'a>> {
    let facts = serde_json::to_value(&prepared.prepared.prompt_statistics)?;
    let header = ReportHeader {
        run_id: run.run_id.clone(),
        workload: WorkloadSection {
            plan: prepared.plan.clone(),
            tokenizer: prepared.tokenizer.describe().id.clone(),
            facts: facts.as_object().cloned().unwrap_or_default(),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host(),
        started_at: run.measurements.started_at,
        calibration,
    };
    Ok(ReportInputs {
        header,
        measurements: &run.measurements,
        recorded: &run.recorded,
        limits: ErrorLimits::default(),
    })
}

/// Prints what was published; fails where something was not.
fn report_publication(
    run_id: &str,
    publication: Option<anyhow::Result<PublishedTotals>>,
    directory: Option<&Path>,
) -> anyhow::Result<()> {
    match publication {
        None => Ok(()),
        Some(Ok(published)) => {
            note(&format!(
                "published {} values in {} batches as run {run_id}: llm-bench rankings --source measured",
                published.values, published.batches
            ));
            Ok(())
        }
        Some(Err(error)) => {
            let rest = directory.map_or_else(
                || "the rest is lost, as there is no --results-dir".to_owned(),
                |directory| format!("`llm-bench publish {}` goes on", directory.display()),
            );
            let message = format!("not everything was published ({rest}): {error:#}");
            note(&message);
            bail!(message)
        }
    }
}

/// The machine's name; empty where it cannot be read.
fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}
