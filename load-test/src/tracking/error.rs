use ureq::http::StatusCode;

/// Why a run was not logged, or not in full.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// There was no answer, or an incomplete one.
    #[error("MLflow, {action}: no answer from {server}")]
    Transport {
        /// The step that failed.
        action: &'static str,
        /// The server.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server refused.
    #[error("MLflow, {action}: {server} answers {status}: {message}")]
    Refused {
        /// The step that failed.
        action: &'static str,
        /// The server.
        server: String,
        /// The answer's status.
        status: StatusCode,
        /// MLflow's error code, such as `RESOURCE_DOES_NOT_EXIST`; `None` where the answer is not MLflow's.
        code: Option<String>,
        /// The server's message.
        message: String,
    },
    /// The answer is not MLflow's JSON.
    #[error(
        "MLflow, {action}: {server} answered something else than MLflow's JSON; is it a tracking server?"
    )]
    Answer {
        /// The step that failed.
        action: &'static str,
        /// The server.
        server: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The experiment was deleted; MLflow keeps its name until it is removed permanently.
    #[error(
        "MLflow: the experiment {name:?} is deleted; restore it (mlflow experiments restore --experiment-id {id}) or choose \
         another --ml-repo"
    )]
    Deleted {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
}

impl TrackingError {
    /// MLflow's error code, where the answer has one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }
}
