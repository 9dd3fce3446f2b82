use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use load_test::{
    report::Report,
    tracking::{Artifact, ArtifactUpload, TrackedRun, TrackingServer},
};
use tokio::task::spawn_blocking;

use super::{environment::Environment, options::LoadTest, terminal::note};
use crate::context::UsageError;

/// Files of the results directory that are uploaded with the run.
const FILES: [&str; 2] = ["report.json", "report.html"];

/// The MLflow server and the names under which the run is logged.
pub(super) struct Tracking {
    server: TrackingServer,
    experiment: String,
    run_name: Option<String>,
}

impl Tracking {
    /// `None` without `--ml-repo`. Called before the run, so that missing settings are reported before time is spent.
    pub(super) fn from_options(
        options: &LoadTest,
        environment: &Environment,
    ) -> anyhow::Result<Option<Self>> {
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
        let tracked = TrackedRun::of(report, self.experiment.clone(), self.run_name.clone(), ended_at)?;
        let artifacts = directory.map(artifacts).transpose()?.unwrap_or_default();
        let server = self.server.clone();
        let logging = spawn_blocking(move || server.log(&tracked, &artifacts));
        let logged = logging
            .await?
            .context("the run is not in MLflow, or not in full")?;
        note(&format!("logged to {}", logged.page));
        if let (Some(_), ArtifactUpload::NotProxied { artifact_uri }) = (directory, logged.artifacts) {
            note(&format!(
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
