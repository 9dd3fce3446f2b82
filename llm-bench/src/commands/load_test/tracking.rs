use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use load_test::{
    report::Report,
    tracking::{Artifact, Tracked, TrackingServer, Uploaded},
};
use tokio::task::spawn_blocking;

use super::{environment::Environment, eprint_line, options::LoadTest};
use crate::context::UsageError;

/// What of the results directory goes with the run.
const FILES: [&str; 2] = ["report.json", "report.html"];

/// Where a run is to be logged, and under which names.
pub(super) struct Tracking {
    server: TrackingServer,
    experiment: String,
    run_name: Option<String>,
}

impl Tracking {
    /// Before the run: what is missing in the environment is said before it takes its time.
    pub(super) fn asked_for(options: &LoadTest, environment: &Environment) -> anyhow::Result<Option<Self>> {
        let Some(experiment) = options.ml_repo.clone() else {
            return Ok(None);
        };
        let server = TrackingServer::from_vars(|name| environment.get(name));
        Ok(Some(Self {
            server: server.map_err(UsageError)?,
            experiment,
            run_name: options.run_name.clone(),
        }))
    }

    /// Logs the run, with its report where there is one in `directory`.
    pub(super) async fn log(
        &self,
        report: &Report,
        ended_at: DateTime<Utc>,
        directory: Option<&Path>,
    ) -> anyhow::Result<()> {
        let tracked = Tracked::of(report, self.experiment.clone(), self.run_name.clone(), ended_at)?;
        let artifacts = directory.map(artifacts).transpose()?.unwrap_or_default();
        let server = self.server.clone();
        let logging = spawn_blocking(move || server.log(&tracked, &artifacts));
        let logged = logging
            .await?
            .context("the run is not in MLflow, or not in full")?;
        eprint_line(&format!("logged to {}", logged.page));
        if let (Some(_), Uploaded::NotProxied { artifact_uri }) = (directory, logged.artifacts) {
            eprint_line(&format!(
                "its report was not uploaded: the server expects files at {artifact_uri} and does not take them itself"
            ));
        }
        Ok(())
    }
}

fn artifacts(directory: &Path) -> anyhow::Result<Vec<Artifact>> {
    let present = FILES.iter().filter(|name| directory.join(name).is_file());
    let read = |name: &&str| {
        let path = directory.join(name);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Artifact {
            name: (*name).to_owned(),
            content,
        })
    };
    present.map(read).collect()
}
