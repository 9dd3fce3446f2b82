//! The part of MLflow's REST API, version 2.0, that is needed to log a run:
//! <https://mlflow.org/docs/latest/rest-api.html>.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::{
    Agent,
    http::{
        Method, Response, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
    },
};
use url::Url;

use super::{
    error::TrackingError,
    log_batches::{KeyValue, LogBatch},
};
use crate::http;

/// Time limit of a request. A server whose database is busy needs seconds for a batch.
const TIMEOUT: Duration = Duration::from_secs(60);
/// At most this much of an answer is read; expected answers have a few kilobytes.
const LONGEST_ANSWER: u64 = 1 << 20;
/// Length of the excerpt of an answer that is not MLflow's.
const EXCERPT_CHARS: usize = 300;

/// How the client authenticates.
#[derive(Clone)]
pub(super) enum Credentials {
    None,
    Login { user: String, password: String },
    Token(String),
}

/// A connection to a tracking server.
pub(super) struct MlflowApi {
    agent: Agent,
    base: Url,
    credentials: Credentials,
}

#[derive(Deserialize)]
pub(super) struct Experiment {
    pub(super) experiment_id: String,
    lifecycle_stage: String,
}

impl Experiment {
    pub(super) fn is_deleted(&self) -> bool {
        self.lifecycle_stage == "deleted"
    }
}

/// `info` of a run.
#[derive(Deserialize)]
pub(super) struct RunInfo {
    pub(super) run_id: String,
    /// Where its files are stored.
    pub(super) artifact_uri: String,
}

/// A run to be created. Times are in milliseconds since 1970.
pub(super) struct NewRun<'a> {
    pub(super) experiment_id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) start_time: i64,
    pub(super) tags: &'a [KeyValue],
}

impl MlflowApi {
    pub(super) fn new(base: Url, credentials: Credentials) -> Self {
        Self {
            agent: http::agent(TIMEOUT),
            base,
            credentials,
        }
    }

    pub(super) fn experiment(&self, name: &str) -> Result<Experiment, TrackingError> {
        #[derive(Deserialize)]
        struct Answer {
            experiment: Experiment,
        }
        let mut url = self.endpoint(["mlflow", "experiments", "get-by-name"]);
        url.query_pairs_mut().append_pair("experiment_name", name);
        let action = "looking up the experiment";
        let answer: Answer = self.ask(action, &Method::GET, &url, Vec::new())?;
        Ok(answer.experiment)
    }

    pub(super) fn create_experiment(&self, name: &str) -> Result<String, TrackingError> {
        #[derive(Deserialize)]
        struct Answer {
            experiment_id: String,
        }
        let action = "making the experiment";
        let path = ["mlflow", "experiments", "create"];
        let answer: Answer = self.post(action, path, &json!({ "name": name }))?;
        Ok(answer.experiment_id)
    }

    pub(super) fn create_run(&self, run: &NewRun<'_>) -> Result<RunInfo, TrackingError> {
        #[derive(Deserialize)]
        struct Answer {
            run: Run,
        }
        #[derive(Deserialize)]
        struct Run {
            info: RunInfo,
        }
        let mut body = json!({
            "experiment_id": run.experiment_id,
            "start_time": run.start_time,
            "tags": run.tags,
        });
        if let Some(name) = run.name {
            body["run_name"] = name.into();
        }
        let path = ["mlflow", "runs", "create"];
        let answer: Answer = self.post("making the run", path, &body)?;
        Ok(answer.run.info)
    }

    pub(super) fn log_batch(&self, run_id: &str, batch: &LogBatch) -> Result<(), TrackingError> {
        let body = json!({ "run_id": run_id, "params": batch.params, "metrics": batch.metrics });
        let path = ["mlflow", "runs", "log-batch"];
        let _: Value = self.post("logging parameters and figures", path, &body)?;
        Ok(())
    }

    pub(super) fn end_run(&self, run_id: &str, status: &str, end_time: i64) -> Result<(), TrackingError> {
        let body = json!({ "run_id": run_id, "status": status, "end_time": end_time });
        let path = ["mlflow", "runs", "update"];
        let _: Value = self.post("ending the run", path, &body)?;
        Ok(())
    }

    /// Stores a file at `path`, relative to the root of the server's artifacts.
    pub(super) fn upload<'a>(
        &self,
        path: impl IntoIterator<Item = &'a str>,
        content: &[u8],
    ) -> Result<(), TrackingError> {
        let mut url = self.endpoint(["mlflow-artifacts", "artifacts"]);
        extend(&mut url, path);
        self.send("uploading a report", &Method::PUT, &url, content.to_vec())?;
        Ok(())
    }

    fn post<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: [&str; 3],
        body: &Value,
    ) -> Result<T, TrackingError> {
        self.ask(
            action,
            &Method::POST,
            &self.endpoint(path),
            body.to_string().into_bytes(),
        )
    }

    fn ask<T: DeserializeOwned>(
        &self,
        action: &'static str,
        method: &Method,
        url: &Url,
        body: Vec<u8>,
    ) -> Result<T, TrackingError> {
        let answer = self.send(action, method, url, body)?;
        serde_json::from_slice(&answer).map_err(|source| TrackingError::Answer {
            action,
            server: self.base.to_string(),
            source,
        })
    }

    /// The body of a successful answer; other answers are errors with the server's message.
    fn send(
        &self,
        action: &'static str,
        method: &Method,
        url: &Url,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, TrackingError> {
        let answer = self
            .exchange(method, url, body)
            .map_err(|source| TrackingError::Transport {
                action,
                server: self.base.to_string(),
                source: Box::new(source),
            })?;
        let (parts, body) = answer.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let location = parts
            .headers
            .get(LOCATION)
            .and_then(|location| location.to_str().ok());
        let (code, message) = refusal(parts.status, location, &body);
        Err(TrackingError::Refused {
            action,
            server: self.base.to_string(),
            status: parts.status,
            code,
            message,
        })
    }

    fn exchange(&self, method: &Method, url: &Url, body: Vec<u8>) -> Result<Response<Vec<u8>>, ureq::Error> {
        let json = (*method == Method::POST).then(|| (CONTENT_TYPE, "application/json".to_owned()));
        let authorization = match &self.credentials {
            Credentials::None => None,
            Credentials::Login { user, password } => {
                let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
                Some((AUTHORIZATION, format!("Basic {login}")))
            }
            Credentials::Token(token) => Some((AUTHORIZATION, format!("Bearer {token}"))),
        };
        let headers = json.into_iter().chain(authorization);
        let body = (*method != Method::GET).then_some(body);
        http::send(
            &self.agent,
            method.clone(),
            url.as_str(),
            headers,
            body,
            LONGEST_ANSWER,
        )
    }

    fn endpoint<const N: usize>(&self, path: [&str; N]) -> Url {
        let mut url = self.base.clone();
        extend(&mut url, ["api", "2.0"].into_iter().chain(path));
        url
    }
}

/// Appends segments to the URL's path; the URL is http or https, so it has one.
fn extend<'a>(url: &mut Url, path: impl IntoIterator<Item = &'a str>) {
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
}

/// MLflow's error code and message, or a message made of an answer that is not MLflow's.
fn refusal(status: StatusCode, location: Option<&str>, body: &[u8]) -> (Option<String>, String) {
    #[derive(Deserialize)]
    struct Refusal {
        error_code: String,
        message: String,
    }
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        return (Some(refusal.error_code), refusal.message);
    }
    let text = String::from_utf8_lossy(body);
    let excerpt: String = text.trim().chars().take(EXCERPT_CHARS).collect();
    let message = match (status, location) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            "it asks for other credentials: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN".to_owned()
        }
        (_, Some(location)) if status.is_redirection() => {
            format!("it points to {location}; set MLFLOW_TRACKING_URI to where the server is")
        }
        _ if excerpt.is_empty() => "no message".to_owned(),
        _ => excerpt,
    };
    (None, message)
}
