use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error that counts `unit`, such as "batches".
pub(crate) fn progress_bar(total: u64, unit: &str) -> anyhow::Result<ProgressBar> {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    Ok(ProgressBar::new(total).with_style(ProgressStyle::with_template(&template)?))
}
