use ureq::http::StatusCode;

/// Why a run was not logged, or not in full.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// No answer, or one that was cut.
    #[error("MLflow, {action}: no answer from {server}")]
    Transport {
        /// What was asked.
        action: &'static str,
        /// The server.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The server refused.
    #[error("MLflow, {action}: {server} answers {status}: {message}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The server.
        server: String,
        /// The answer's status.
        status: StatusCode,
        /// MLflow's word for what went wrong, such as `RESOURCE_DOES_NOT_EXIST`; `None` where the answer is not MLflow's.
        code: Option<String>,
        /// What the server says.
        message: String,
    },
    /// The answer is not what MLflow answers.
    #[error(
        "MLflow, {action}: {server} answered something else than MLflow's JSON; is it a tracking server?"
    )]
    Answer {
        /// What was asked.
        action: &'static str,
        /// The server.
        server: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The experiment was deleted, and keeps its name until it is removed for good.
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
    /// MLflow's word for what went wrong, where it gave one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }
}
