use std::path::{Path, PathBuf};

use anyhow::bail;
use load_test::{
    compare::{self, Options},
    report::Report,
};
use shared_types::Invalid;

use super::terminal::print_result;
use crate::{
    cli::Compare,
    context::{UsageError, WrongInput},
};

/// `report.json`, in a results directory.
const REPORT_FILE: &str = "report.json";

/// Prints what the second run does better or worse than the first.
///
/// # Errors
/// Where something is worse (exit status 1, for use as a gate), or reports cannot be read or compared (2).
pub(crate) fn run(options: &Compare) -> anyhow::Result<()> {
    let (a, b) = (report(&options.a)?, report(&options.b)?);
    let settings = Options {
        threshold: options.threshold,
        allow_invalid: options.allow_invalid,
    };
    let comparison = compare::compare(&a, &b, &settings).map_err(|error| WrongInput(error.into()))?;
    if options.json {
        print_result(&serde_json::to_string_pretty(&comparison)?);
    } else {
        print_result(&comparison.to_text());
    }
    if comparison.is_worse() {
        bail!("{} is worse than {}", options.b.display(), options.a.display());
    }
    Ok(())
}

/// Reads a report, or the report of a results directory.
fn report(path: &Path) -> Result<Report, UsageError> {
    let path: PathBuf = if path.is_dir() {
        path.join(REPORT_FILE)
    } else {
        path.to_owned()
    };
    let report = match std::fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    report.map_err(|found| {
        let expected = format!("the {REPORT_FILE} of a load test");
        UsageError(Invalid::new(path.display().to_string(), found, expected))
    })
}
