//! Server-sent events that name the rankings that changed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared_types::Source;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::State;
use crate::{
    auth::{Authorized, Read},
    problem::Problem,
    projector::Rankings,
};

/// The longest time without a message: proxies close streams that are silent for longer.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The data of an event `ranking`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RankingChanged<'a> {
    /// The metric whose ranking changed.
    metric: &'a str,
    /// The source whose ranking changed.
    #[schema(value_type = String, example = "simulated")]
    source: Source,
    /// When the new ranking was computed.
    as_of: DateTime<Utc>,
}

/// A stream of events `ranking`, one for each metric and source whose ranking changed. What changes faster than the
/// client reads is told once. The last event of a change carries its `id`; a client that comes back with it as
/// `Last-Event-ID` is told at once what has changed since.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "rankings",
    params(("Last-Event-ID" = Option<String>, Header, description = "the id of the last event received")),
    responses(
        (status = 200, description = "events, and a comment every 15 seconds of silence", body = RankingChanged, content_type = "text/event-stream"),
        (status = 503, description = "too many streams are open"),
    ),
)]
pub(super) async fn events(
    _: Authorized<Read>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let permit = Arc::clone(&state.event_streams)
        .try_acquire_owned()
        .map_err(|_: tokio::sync::TryAcquireError| Problem::overloaded("too many event streams are open"))?;
    let last_seen = request
        .headers()
        .get("Last-Event-ID")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let versions = state.rankings.subscribe();
    let current = *versions.borrow();
    state.open_event_streams.inc();
    let stream = EventStream {
        rankings: Arc::clone(&state.rankings),
        versions,
        seen: last_seen.unwrap_or(current),
        leaving: state.leaving.clone(),
        waiting: VecDeque::from([Bytes::from_static(b"retry: 2000\n: rankings\n\n")]),
        gauge: state.open_event_streams.clone(),
        _permit: permit,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(futures::stream::unfold(stream, EventStream::next)))
}

struct EventStream {
    rankings: Arc<Rankings>,
    versions: watch::Receiver<u64>,
    seen: u64,
    leaving: CancellationToken,
    /// At most one chunk: the events of one change.
    waiting: VecDeque<Bytes>,
    gauge: prometheus::IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl EventStream {
    async fn next(mut self) -> Option<(Result<Bytes, actix_web::Error>, Self)> {
        if let Some(chunk) = self.waiting.pop_front() {
            return Some((Ok(chunk), self));
        }
        let chunk = loop {
            if let Some(chunk) = self.changes() {
                break chunk;
            }
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => return None,
                changed = self.versions.changed() => changed.ok()?,
                () = tokio::time::sleep(HEARTBEAT) => break Bytes::from_static(b": still here\n\n"),
            }
        };
        Some((Ok(chunk), self))
    }

    /// The events since the last version that was sent; `None` if nothing changed.
    fn changes(&mut self) -> Option<Bytes> {
        let snapshot = self.rankings.load();
        if snapshot.version <= self.seen {
            return None;
        }
        let mut events: Vec<String> = snapshot
            .changed_since(self.seen)
            .map(|(metric, source)| {
                let data = RankingChanged {
                    metric,
                    source,
                    as_of: snapshot.as_of,
                };
                format!("event: ranking\ndata: {}\n", serde_json::json!(data))
            })
            .collect();
        self.seen = snapshot.version;
        // Only the last event has the id: a client that was cut off before it receives all of them again.
        events
            .last_mut()?
            .push_str(&format!("id: {}\n", snapshot.version));
        events.push(String::new());
        Some(events.join("\n").into())
    }
}
