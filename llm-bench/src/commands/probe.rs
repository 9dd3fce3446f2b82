use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cli::Probe;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: Probe) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let answer = client
        .get(&options.url)
        .send()
        .await
        .with_context(|| format!("no answer from {}", options.url))?;
    ensure!(
        answer.status().is_success(),
        "{} answers {}",
        options.url,
        answer.status()
    );
    Ok(())
}
