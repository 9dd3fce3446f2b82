//! `llm-bench merge`: one report of the shares of a run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use load_test::{
    merge::{FinishedShare, Merged},
    publish::{PUBLISHED_FILE, RunFile},
};
use shared_types::Invalid;

use super::{outcome, publishing, results, terminal::note};
use crate::{
    cli::Merge,
    context::{Context, UsageError, WrongInput},
};

/// Merges the shares, writes and says what a run writes and says, and publishes the run where that is asked for.
///
/// # Errors
/// A directory is not that of a finished share: exit status 2. Figures that are not valid: 1.
pub(crate) async fn run(options: &Merge, context: &Context) -> anyhow::Result<()> {
    let shares: Vec<FinishedShare> = options
        .directories
        .iter()
        .map(|directory| FinishedShare::read(directory).map_err(|error| WrongInput(error.into())))
        .collect::<Result<_, _>>()?;
    let merged = Merged::new(shares, env!("CARGO_PKG_VERSION"), options.run_id.as_deref());
    let merged = merged.context("there are no shares")?;
    // Publishing reads a results directory.
    let temporary = tempfile::tempdir()?;
    let directory = match &options.results_dir {
        Some(directory) => made(directory, &options.directories)?,
        None => temporary.path(),
    };
    begin_again(&merged, directory)?;
    let written = results::write_merged(&merged, context.clock.now(), directory);
    outcome::show(&merged.report, options.json)?;
    written?;
    if options.results_dir.is_some() {
        note(&format!("results: {}", directory.join("report.html").display()));
    }
    if let Some(url) = &options.publish {
        let judged = outcome::judged(&merged.report, options.allow_invalid);
        judged.context("nothing was published")?;
        publish(&merged, directory, url.as_deref(), context).await?;
    }
    outcome::judged(&merged.report, options.allow_invalid)
}

/// The results directory, which must not be that of a share: its requests would be lost.
fn made<'a>(directory: &'a Path, shares: &[PathBuf]) -> anyhow::Result<&'a Path> {
    fs::create_dir_all(directory)
        .with_context(|| format!("--results-dir: cannot make {}", directory.display()))?;
    let path = directory.canonicalize()?;
    if shares
        .iter()
        .any(|share| share.canonicalize().is_ok_and(|share| share == path))
    {
        let found = format!("{}, the directory of a share", directory.display());
        let expected = "a directory of its own";
        return Err(UsageError(Invalid::new("--results-dir", found, expected)).into());
    }
    Ok(directory)
}

/// A merge of the same run that did not publish it to its end may be repeated: it makes the same batches again.
fn begin_again(merged: &Merged, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(PUBLISHED_FILE);
    let is_same_run = RunFile::read(directory).is_ok_and(|run| run.run_id == merged.report.run_id);
    if is_same_run && path.exists() {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Every batch follows from the shares' files alone: whatever had arrived before counts once.
async fn publish(
    merged: &Merged,
    directory: &Path,
    url: Option<&str>,
    context: &Context,
) -> anyhow::Result<()> {
    if !merged.is_complete {
        bail!(
            "nothing was published, as this is not the whole run: {}",
            merged.report.problems.join(" ")
        );
    }
    let published = publishing::publish_directory(directory, url, context).await?;
    note(&format!(
        "published {} values in {} batches as run {}; what had arrived before counts once: llm-bench rankings --source measured",
        published.values, published.batches, merged.report.run_id
    ));
    Ok(())
}
