use async_trait::async_trait;
use shared_types::{MetricBatch, Secret, message};
use storage::Recorded;

use super::{PublishError, metrics::definitions_to_register};

/// Where batches enter the pipeline. The same batches may be given again: they count once.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Makes the metrics known that a load test has and a registry may not.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses.
    async fn register_metrics(&self) -> Result<(), PublishError>;

    /// Stores the batches, which are published from then on, whatever becomes of this process.
    ///
    /// # Errors
    /// See [`PublishError::is_passing`].
    async fn submit(&self, batches: &[MetricBatch]) -> Result<(), PublishError>;
}

impl PublishError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Storage(error) => matches!(error, storage::StorageError::Unavailable { .. }),
            Self::Unreachable { .. } => true,
            Self::Answer { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Invalid(_) | Self::Refused { .. } | Self::File { .. } | Self::Line { .. } => false,
        }
    }
}

/// Into the database that this process is connected to.
#[derive(Debug)]
pub struct OutboxSink {
    outbox: outbox::Outbox,
    storage: std::sync::Arc<dyn storage::Storage>,
    clock: std::sync::Arc<dyn shared_types::Clock>,
}

impl OutboxSink {
    /// By this outbox, and the registry of this database.
    #[must_use]
    pub fn new(
        outbox: outbox::Outbox,
        storage: std::sync::Arc<dyn storage::Storage>,
        clock: std::sync::Arc<dyn shared_types::Clock>,
    ) -> Self {
        Self {
            outbox,
            storage,
            clock,
        }
    }
}

#[async_trait]
impl Sink for OutboxSink {
    async fn register_metrics(&self) -> Result<(), PublishError> {
        for metric in definitions_to_register()? {
            match self.storage.create_metric(&metric, self.clock.now()).await {
                Ok(_) | Err(storage::StorageError::NameTaken { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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

/// To a running service's `POST /api/v1/batches`.
#[derive(Debug)]
pub struct HttpSink {
    client: reqwest::Client,
    /// `…/api/v1/`
    api: reqwest::Url,
    key: Option<Secret>,
}

impl HttpSink {
    /// How long the service may take to answer.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

    /// To the service at `url`, such as `http://127.0.0.1:8000`. The key needs the scope `write`.
    ///
    /// # Errors
    /// That is no URL of a service.
    pub fn new(url: &str, key: Option<Secret>) -> Result<Self, PublishError> {
        let refused =
            || shared_types::Invalid::new("--publish", url, "a service's URL, such as http://127.0.0.1:8000");
        let mut api = reqwest::Url::parse(url).map_err(|_: url::ParseError| refused())?;
        if !matches!(api.scheme(), "http" | "https") {
            return Err(refused().into());
        }
        api.path_segments_mut()
            .map_err(|()| refused())?
            .pop_if_empty()
            .extend(["api", "v1", ""]);
        let client = reqwest::Client::builder()
            .timeout(Self::PATIENCE)
            // The key is for this service, not for another that it points to.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| PublishError::Unreachable {
                url: url.to_owned(),
                source,
            })?;
        Ok(Self { client, api, key })
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<(u16, String), PublishError> {
        let url = format!("{}{path}", self.api);
        let mut request = self
            .client
            .post(&url)
            .header("Content-Type", "application/json")
            .body(body);
        if let Some(key) = &self.key {
            request = request.header("X-API-KEY", key.expose());
        }
        let unreachable = |source: reqwest::Error| PublishError::Unreachable {
            url: url.clone(),
            source: source.without_url(),
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(unreachable)?;
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no detail").to_owned();
        Ok((status, detail))
    }
}

#[async_trait]
impl Sink for HttpSink {
    /// A key that may only write cannot register: then batches of these metrics are refused where nobody else has.
    async fn register_metrics(&self) -> Result<(), PublishError> {
        for metric in definitions_to_register()? {
            let body = serde_json::json!({
                "title": metric.title.as_str(), "unit": metric.unit.as_str(),
                "lower_bound": metric.bounds.lower(), "upper_bound": metric.bounds.upper(),
                "better": metric.better.as_str(),
            });
            match self.post("metrics", body.to_string().into_bytes()).await? {
                (201 | 409, _) => {}
                (403, detail) => {
                    tracing::warn!(metric.title = %metric.title, detail, "the key may not register metrics")
                }
                (status, detail) => {
                    return Err(PublishError::Answer {
                        url: format!("{}metrics", self.api),
                        status,
                        detail,
                    });
                }
            }
        }
        Ok(())
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
            (status, detail) => Err(PublishError::Answer {
                url: format!("{}batches", self.api),
                status,
                detail,
            }),
        }
    }
}
