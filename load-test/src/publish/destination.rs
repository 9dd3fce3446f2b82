use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox::Outbox;
use serde_json::{Value, json};
use shared_types::{Clock, Invalid, MetricBatch, NewMetric, Secret, message};
use storage::{Recorded, Storage, StorageError};
use tokio::task::spawn_blocking;
use ureq::{
    Agent,
    http::{HeaderName, Method, header::CONTENT_TYPE},
};
use url::Url;

use super::{MeasuredMetric, PublishError, metrics::definitions_to_register};
use crate::http;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where batches enter the pipeline. The same batches may be submitted again; they are counted once.
#[async_trait]
pub trait BatchDestination: Send + Sync {
    /// Registers the metrics of a load test that the registry may not have. Returns those that stay unknown because the caller may
    /// not register metrics; their values cannot be published.
    ///
    /// # Errors
    /// Where the registry cannot be reached.
    async fn register_metrics(&self) -> Result<Vec<MeasuredMetric>, PublishError>;

    /// Stores the batches. From then on they are published even if this process ends.
    ///
    /// # Errors
    /// See [`PublishError::is_transient`].
    async fn submit(&self, batches: &[MetricBatch]) -> Result<(), PublishError>;
}

impl PublishError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => matches!(error, StorageError::Unavailable { .. }),
            Self::Unreachable { .. } | Self::NoAnswer => true,
            Self::Answer { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Invalid(_)
            | Self::Refused { .. }
            | Self::File { .. }
            | Self::Line { .. }
            | Self::Unpublished { .. } => false,
        }
    }
}

/// Writes to the database that this process is connected to.
#[derive(Debug)]
pub struct OutboxDestination {
    outbox: Outbox,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
}

impl OutboxDestination {
    /// Submits to `outbox` and registers metrics in `storage`.
    #[must_use]
    pub fn new(outbox: Outbox, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        Self {
            outbox,
            storage,
            clock,
        }
    }
}

#[async_trait]
impl BatchDestination for OutboxDestination {
    /// A database role of least privilege may not register metrics.
    async fn register_metrics(&self) -> Result<Vec<MeasuredMetric>, PublishError> {
        let (known, mut left_out) = (self.storage.metrics().await?, Vec::new());
        for (metric, definition) in definitions_to_register()? {
            if known.iter().any(|known| known.title == definition.title) {
                continue;
            }
            match self.storage.create_metric(&definition, self.clock.now()).await {
                Ok(_) | Err(StorageError::NameTaken { .. }) => {}
                Err(error @ StorageError::Fault { .. }) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(metric.title = %definition.title, error, "not registered");
                    left_out.push(metric);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left_out)
    }

    async fn submit(&self, batches: &[MetricBatch]) -> Result<(), PublishError> {
        let outcomes = self.outbox.submit(batches.to_vec()).await?;
        for (batch, outcome) in batches.iter().zip(outcomes) {
            if let Recorded::Refused(refusal) = outcome {
                return Err(PublishError::Refused {
                    metric: batch.metric().to_string(),
                    reason: refusal.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Sends to `POST /api/v1/batches` of a running service.
#[derive(Debug)]
pub struct HttpDestination {
    agent: Agent,
    /// `…/api/v1/`
    api: Url,
    key: Option<Secret>,
}

impl HttpDestination {
    /// How long the service may take to answer.
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Sends to the service at `url`, such as `http://127.0.0.1:8000`. The key needs the scope `write`.
    ///
    /// # Errors
    /// Where `url` is not the URL of a service.
    pub fn new(url: &str, key: Option<Secret>) -> Result<Self, PublishError> {
        let refused = || Invalid::new("URL", url, "a service's, such as http://127.0.0.1:8000");
        let mut api = Url::parse(url).map_err(|_: url::ParseError| refused())?;
        if !matches!(api.scheme(), "http" | "https") {
            return Err(refused().into());
        }
        if !api.username().is_empty() || api.password().is_some() {
            let expected = "a URL without user and password: the key is API_KEY";
            return Err(Invalid::new("URL", "a login in it", expected).into());
        }
        api.path_segments_mut()
            .map_err(|()| refused())?
            .pop_if_empty()
            .extend(["api", "v1", ""]);
        Ok(Self {
            agent: http::agent(Self::TIMEOUT),
            api,
            key,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    async fn known_metrics(&self) -> Result<Vec<String>, PublishError> {
        let (status, answer) = self.ask("metrics", None).await?;
        if status != 200 {
            return Err(self.refusal("metrics", status, &answer));
        }
        let metrics = answer["data"].as_array().into_iter().flatten();
        Ok(metrics
            .filter_map(|metric| metric["title"].as_str().map(str::to_owned))
            .collect())
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<(u16, Value), PublishError> {
        self.ask(path, Some(body)).await
    }

    /// Sends a POST request with the body, or a GET request without one. On a thread of its own, because the client blocks.
    async fn ask(&self, path: &str, body: Option<Vec<u8>>) -> Result<(u16, Value), PublishError> {
        const LONGEST_ANSWER: u64 = 16 * 1024 * 1024;
        let (agent, url) = (self.agent.clone(), self.url(path));
        let key = self.key.as_ref().map(|key| (API_KEY, key.expose().to_owned()));
        let json = body
            .is_some()
            .then(|| (CONTENT_TYPE, "application/json".to_owned()));
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let headers = key.into_iter().chain(json);
        let asked = url.clone();
        let asking =
            spawn_blocking(move || http::send(&agent, method, &asked, headers, body, LONGEST_ANSWER));
        match asking.await {
            Ok(Ok(answer)) => {
                let json = serde_json::from_slice(answer.body()).unwrap_or_default();
                Ok((answer.status().as_u16(), json))
            }
            Ok(Err(source)) => Err(PublishError::Unreachable { url, source }),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn refusal(&self, path: &str, status: u16, problem: &Value) -> PublishError {
        PublishError::Answer {
            url: self.url(path),
            status,
            detail: problem["detail"].as_str().unwrap_or("no detail").to_owned(),
        }
    }
}

#[async_trait]
impl BatchDestination for HttpDestination {
    /// Registering needs the scope `admin`, which a key for publishing does not need to have.
    async fn register_metrics(&self) -> Result<Vec<MeasuredMetric>, PublishError> {
        let (known, mut left_out) = (self.known_metrics().await?, Vec::new());
        for (metric, definition) in definitions_to_register()? {
            if known.iter().any(|title| title == definition.title.as_str()) {
                continue;
            }
            let (status, answer) = self.post("metrics", body_of(&definition)).await?;
            match status {
                201 | 409 => {}
                403 => {
                    let detail = answer["detail"].as_str();
                    tracing::warn!(metric.title = %definition.title, detail, "not registered");
                    left_out.push(metric);
                }
                _ => return Err(self.refusal("metrics", status, &answer)),
            }
        }
        Ok(left_out)
    }

    async fn submit(&self, batches: &[MetricBatch]) -> Result<(), PublishError> {
        let mut body = vec![b'['];
        for (number, batch) in batches.iter().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend(message::encode(batch));
        }
        body.push(b']');
        match self.post("batches", body).await? {
            (202, _) => Ok(()),
            (status, answer) => Err(self.refusal("batches", status, &answer)),
        }
    }
}

fn body_of(metric: &NewMetric) -> Vec<u8> {
    let body = json!({
        "title": metric.title.as_str(),
        "unit": metric.unit.as_str(),
        "lower_bound": metric.bounds.lower(),
        "upper_bound": metric.bounds.upper(),
        "better": metric.better.as_str(),
    });
    body.to_string().into_bytes()
}
