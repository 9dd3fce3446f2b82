use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus::IntCounter;
use shared_types::{Clock, Invalid, MetricTitle};
use storage::Storage;

use super::{Freshness, Projector, Rankings, RefreshError};
use crate::snapshot::{Selection, Shape, Target};

/// Why the rankings cannot be shown now.
#[derive(Debug, thiserror::Error)]
pub enum RankingsError {
    /// The database refused or is away, or holds statistics that do not decode.
    #[error("the rankings cannot be computed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no such metric.
    #[error(transparent)]
    UnknownMetric(#[from] Invalid),
    /// A counter could not be made.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl From<RefreshError> for RankingsError {
    fn from(error: RefreshError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// The rankings as the database says now, in the API's JSON or as CSV: what `llm-bench rankings` shows without a
/// running service. `metric` restricts them to one.
///
/// # Errors
/// The database is away, or there is no such metric.
pub async fn rankings_now(
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    selection: Selection,
    metric: Option<&MetricTitle>,
    csv: bool,
) -> Result<Bytes, RankingsError> {
    let rankings = Arc::new(Rankings::new());
    let failures = IntCounter::new("unused", "nobody reads the failures of a single refresh")?;
    // Asked once: nothing pauses, and nothing becomes stale.
    let (freshness, pause) = (Freshness::new(None, Duration::MAX), Duration::MAX);
    let known = Arc::clone(&rankings);
    Projector::new(storage, clock, known, freshness, pause, selection, failures)
        .refresh()
        .await?;
    let snapshot = rankings.load();
    let target = match metric {
        None => Target::All,
        Some(title) => Target::Metric(snapshot.place(title).ok_or_else(|| {
            let known: Vec<&str> = snapshot.titles().collect();
            Invalid::new("metric", title, format!("one of {}", known.join(", ")))
        })?),
    };
    let shape = if csv { Shape::Csv } else { Shape::Json };
    Ok(snapshot.body(selection, target, shape).bytes.clone())
}
