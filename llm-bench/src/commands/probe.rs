use std::time::Duration;

use anyhow::{Context as _, ensure};
use load_test::http;
use tokio::task;

use crate::cli::Probe;

const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: Probe) -> anyhow::Result<()> {
    // The process that is probed is on this machine: never through a proxy.
    let request = http::agent(TIMEOUT)
        .get(&options.url)
        .config()
        .proxy(None)
        .build();
    let answer = task::spawn_blocking(move || request.call())
        .await?
        .with_context(|| format!("no answer from {}", options.url))?;
    ensure!(
        answer.status().is_success(),
        "{} answers {}",
        options.url,
        answer.status()
    );
    Ok(())
}
