//! The tracking server: its address and credentials, and the steps to log a run.

use std::fmt;

use shared_types::Invalid;
use url::Url;

use super::{
    error::TrackingError,
    log_batches::{batches, tags},
    mlflow_api::{Credentials, MlflowApi, NewRun, RunInfo},
    tracked_run::TrackedRun,
};

const RESOURCE_DOES_NOT_EXIST: &str = "RESOURCE_DOES_NOT_EXIST";
const RESOURCE_ALREADY_EXISTS: &str = "RESOURCE_ALREADY_EXISTS";

const URI: &str = "MLFLOW_TRACKING_URI";
const USERNAME: &str = "MLFLOW_TRACKING_USERNAME";
const PASSWORD: &str = "MLFLOW_TRACKING_PASSWORD";
const TOKEN: &str = "MLFLOW_TRACKING_TOKEN";
const AN_ADDRESS: &str = "the tracking server's address, such as http://127.0.0.1:5000";

/// An MLflow tracking server.
#[derive(Clone)]
pub struct TrackingServer {
    address: Url,
    credentials: Credentials,
}

/// A file that belongs to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its name, without directories.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// A run in MLflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRun {
    /// The experiment's id.
    pub experiment_id: String,
    /// The run's id.
    pub run_id: String,
    /// The URL of its page.
    pub page: String,
    /// Whether its files were uploaded.
    pub artifacts: ArtifactUpload,
}

/// Whether a run's files were uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactUpload {
    /// All were uploaded.
    All,
    /// None were uploaded: the server expects its clients to write files to this place themselves.
    NotProxied {
        /// Where its artifacts are, such as an S3 bucket.
        artifact_uri: String,
    },
}

impl TrackingServer {
    /// From MLflow's own environment variables, which `var` looks up: `MLFLOW_TRACKING_URI` (`http` or `https`), and
    /// `MLFLOW_TRACKING_USERNAME` with `MLFLOW_TRACKING_PASSWORD`, else `MLFLOW_TRACKING_TOKEN`. A login in the address counts
    /// as those two.
    ///
    /// # Errors
    ///
    /// Where the address is missing or of another kind (MLflow's own client also takes directories and databases), or half
    /// a login is given.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let uri = set(URI).ok_or_else(|| Invalid::new(URI, "nothing", AN_ADDRESS))?;
        let mut address = address(uri.trim())?;
        let in_address = login_of(&mut address);
        let (user, password) = (set(USERNAME), set(PASSWORD));
        let half = |missing, other| {
            Err(Invalid::new(
                missing,
                "nothing",
                format!("a value, as {other} has one"),
            ))
        };
        let credentials = match (user, password) {
            (Some(user), Some(password)) => Credentials::Login { user, password },
            (Some(_), None) => return half(PASSWORD, USERNAME),
            (None, Some(_)) => return half(USERNAME, PASSWORD),
            (None, None) => {
                let token = set(TOKEN).map(|token| Credentials::Token(token.trim().to_owned()));
                in_address.or(token).unwrap_or(Credentials::None)
            }
        };
        Ok(Self { address, credentials })
    }

    /// Logs a run with its files. Blocks, for at most a minute per request.
    ///
    /// # Errors
    ///
    /// Where the server cannot be reached, refuses or is not a tracking server, or the experiment was deleted. A run that was already
    /// created is ended as `FAILED` if possible.
    pub fn log(&self, tracked: &TrackedRun, artifacts: &[Artifact]) -> Result<LoggedRun, TrackingError> {
        let api = MlflowApi::new(self.address.clone(), self.credentials.clone());
        let experiment_id = experiment(&api, &tracked.experiment)?;
        let run = api.create_run(&NewRun {
            experiment_id: &experiment_id,
            name: tracked.run_name.as_deref(),
            start_time: tracked.started_at.timestamp_millis(),
            tags: &tags(tracked),
        })?;
        let end_time = tracked.ended_at.timestamp_millis();
        match log_contents(&api, &run, tracked, artifacts) {
            Ok(artifacts) => {
                let status = if tracked.ok { "FINISHED" } else { "FAILED" };
                api.end_run(&run.run_id, status, end_time)?;
                Ok(LoggedRun {
                    page: self.page(&experiment_id, &run.run_id),
                    experiment_id,
                    run_id: run.run_id,
                    artifacts,
                })
            }
            Err(error) => {
                // The first error is returned; this one most likely has the same cause.
                drop(api.end_run(&run.run_id, "FAILED", end_time));
                Err(error)
            }
        }
    }

    fn page(&self, experiment_id: &str, run_id: &str) -> String {
        let base = self.address.as_str().trim_end_matches('/');
        format!("{base}/#/experiments/{experiment_id}/runs/{run_id}")
    }
}

impl fmt::Debug for TrackingServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TrackingServer")
            .field("address", &self.address.as_str())
            .finish_non_exhaustive()
    }
}

/// Parses the address. Error messages do not contain it, because it may contain a password.
fn address(uri: &str) -> Result<Url, Invalid> {
    let refuse = |found: String| Invalid::new(URI, found, AN_ADDRESS);
    let mut address = Url::parse(uri).map_err(|error| refuse(format!("no URL ({error})")))?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(refuse(format!("a URL that begins with {}:", address.scheme())));
    }
    address.set_query(None);
    address.set_fragment(None);
    Ok(address)
}

/// Removes the login from the address, so that no message contains it.
fn login_of(address: &mut Url) -> Option<Credentials> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let login = address.password().map(|password| Credentials::Login {
        user: decoded(address.username()),
        password: decoded(password),
    });
    // Neither can fail for an address with a host, and these have one.
    let _ = address.set_username("");
    let _ = address.set_password(None);
    login
}

/// The id of the experiment of this name, which is created where it is missing.
fn experiment(api: &MlflowApi, name: &str) -> Result<String, TrackingError> {
    let found = match api.experiment(name) {
        Err(error) if error.code() == Some(RESOURCE_DOES_NOT_EXIST) => match api.create_experiment(name) {
            // Another run has created it meanwhile.
            Err(error) if error.code() == Some(RESOURCE_ALREADY_EXISTS) => api.experiment(name)?,
            made => return made,
        },
        found => found?,
    };
    if found.is_deleted() {
        return Err(TrackingError::Deleted {
            name: name.to_owned(),
            id: found.experiment_id,
        });
    }
    Ok(found.experiment_id)
}

fn log_contents(
    api: &MlflowApi,
    run: &RunInfo,
    tracked: &TrackedRun,
    artifacts: &[Artifact],
) -> Result<ArtifactUpload, TrackingError> {
    for batch in batches(tracked) {
        api.log_batch(&run.run_id, &batch)?;
    }
    // mlflow-artifacts://HOST/ names another server than the one that was asked.
    let Some(directory) = run
        .artifact_uri
        .strip_prefix("mlflow-artifacts:/")
        .filter(|path| !path.starts_with('/'))
    else {
        return Ok(ArtifactUpload::NotProxied {
            artifact_uri: run.artifact_uri.clone(),
        });
    };
    for artifact in artifacts {
        let path = directory.split('/').chain([artifact.name.as_str()]);
        api.upload(path, &artifact.content)?;
    }
    Ok(ArtifactUpload::All)
}
