use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;
use crate::say::say;

pub(crate) async fn run(context: Context) -> anyhow::Result<()> {
    let storage = context.storage_in_use().await?;
    say!("database: {}", context.database_place());
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} batches, {per_sec}, {eta} left",
    )?);
    let report = storage
        .rebuild(&|done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })
        .await
        .context("rebuilding the statistics")?;
    bar.finish_and_clear();
    say!(
        "folded {} batches into {} rows of statistics; {}",
        report.batches,
        report.rows,
        match report.changed {
            0 => "all were right before".to_owned(),
            n => format!("{n} of them had been wrong"),
        }
    );
    Ok(())
}
