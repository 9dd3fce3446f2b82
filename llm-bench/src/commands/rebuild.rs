use anyhow::Context as _;

use crate::{context::Context, progress::progress_bar, say::say};

pub(crate) async fn run(context: Context) -> anyhow::Result<()> {
    let storage = context.existing_storage().await?;
    say!("database: {}", context.database_label());
    let bar = progress_bar(0, "batches")?;
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
