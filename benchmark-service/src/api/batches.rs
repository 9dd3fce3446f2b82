//! Reading stored batches and submitting new ones.

use std::str::FromStr;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared_types::{BatchId, Invalid, LlmName, Metadata, MetricBatch, MetricTitle, RunId, Source, message};
use storage::{BatchCursor, BatchFilter, Recorded, Storage, StorageError, StoredBatch};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    State, idempotency,
    request::{Parameters, is_valid_batch_time, read_body},
    response::{Success, success},
    schemas::{Batches, IdempotencyKey, SourceName, Text},
};
use crate::{
    auth::{Authorized, Read, Write},
    problem::Problem,
};

/// A stored batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct BatchView {
    /// Its identity.
    #[schema(value_type = Uuid)]
    id: BatchId,
    /// The LLM that was measured.
    llm_name: String,
    /// What was measured.
    metric: String,
    /// The unit of its metric, as the registry has it.
    unit: Option<String>,
    /// When it was measured.
    timestamp: DateTime<Utc>,
    /// When it was stored.
    recorded_at: DateTime<Utc>,
    /// Where it comes from.
    #[schema(value_type = String, example = "simulated")]
    source: Source,
    /// The run it belongs to.
    run_id: Option<String>,
    /// The simulation's seed.
    seed: Option<u64>,
    /// Its place in the run.
    sequence: Option<u64>,
    /// How it came to be, in its producer's words; absent where nothing was said.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    #[schema(value_type = Object, required = false)]
    metadata: Metadata,
    /// How many values it holds.
    n: usize,
    /// BLAKE3 of its content, hexadecimal.
    checksum: String,
    /// The values, where `values=true` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<f64>>,
}

impl BatchView {
    fn of(stored: &StoredBatch, with_values: bool) -> Self {
        let batch = &stored.batch;
        let provenance = batch.provenance();
        Self {
            id: batch.id(),
            llm_name: batch.llm().to_string(),
            metric: batch.metric().to_string(),
            unit: batch.content().unit.as_ref().map(ToString::to_string),
            timestamp: batch.timestamp(),
            recorded_at: stored.recorded_at,
            source: provenance.source,
            run_id: provenance.run_id.as_ref().map(RunId::to_string),
            seed: provenance.seed,
            sequence: provenance.sequence,
            metadata: provenance.metadata.clone(),
            n: batch.values().len(),
            checksum: batch.checksum().to_string(),
            values: with_values.then(|| batch.values().to_vec()),
        }
    }
}

/// A page of batches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchPage {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// Newest first.
    data: Vec<BatchView>,
    /// Where to go on.
    page: PageLinks,
}

/// Where the next page starts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageLinks {
    /// For the parameter `cursor`; null on the last page.
    next_cursor: Option<String>,
}

/// The text of a cursor, opaque to clients: the microseconds and the id in hexadecimal.
struct Cursor(BatchCursor);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(BatchCursor { timestamp, id }) = self;
        write!(
            f,
            "{:016x}{}",
            timestamp.timestamp_micros(),
            id.as_uuid().simple()
        )
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Invalid> {
        let parsed = raw.split_at_checked(16).and_then(|(micros, id)| {
            let timestamp = DateTime::from_timestamp_micros(i64::from_str_radix(micros, 16).ok()?)?;
            let id = Uuid::try_parse(id).ok()?.into();
            is_valid_batch_time(&timestamp).then_some(BatchCursor { timestamp, id })
        });
        parsed
            .map(Self)
            .ok_or_else(|| Invalid::new("cursor", raw.escape_debug(), "the next_cursor of the page before"))
    }
}

struct ListQuery {
    filter: BatchFilter,
    limit: u32,
    after: Option<BatchCursor>,
    with_values: bool,
}

impl ListQuery {
    const DEFAULT_LIMIT: u32 = 50;
    const MAX_LIMIT: u32 = 500;

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(request)?;
        let query = Self {
            filter: BatchFilter {
                llm: parameters.take::<LlmName>("llm"),
                metric: parameters.take::<MetricTitle>("metric"),
                source: parameters.take::<Source>("source"),
            },
            limit: parameters
                .take_as("limit", "a whole number from 1 to 500", |n| {
                    (1..=Self::MAX_LIMIT).contains(n)
                })
                .unwrap_or(Self::DEFAULT_LIMIT),
            after: parameters.take::<Cursor>("cursor").map(|Cursor(cursor)| cursor),
            with_values: values_wanted(&mut parameters),
        };
        parameters.finish()?;
        Ok(query)
    }
}

fn values_wanted(parameters: &mut Parameters) -> bool {
    parameters
        .take_as::<bool>("values", "true or false", |_| true)
        .unwrap_or(false)
}

/// The stored batches, newest first. A page ends early where its batches hold very many values.
#[utoipa::path(
    get, path = "/api/v1/batches", tag = "batches", operation_id = "list_batches",
    params(
        ("llm" = inline(Option<Text>), Query, description = "only this LLM's"),
        ("metric" = inline(Option<Text>), Query, description = "only this metric's"),
        ("source" = inline(Option<SourceName>), Query, description = "only from simulated, measured or imported"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "at most this many, 1 to 500 (default 50)"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
        ("values" = Option<bool>, Query, description = "true includes the arrays"),
    ),
    responses((status = 200, description = "a page", body = BatchPage)),
)]
pub(super) async fn list(
    _: Authorized<Read>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let query = ListQuery::read(&request)?;
    let (data, next) = state.database.read(page(state.storage.as_ref(), query)).await?;
    Ok(HttpResponse::Ok().json(BatchPage {
        status: "success",
        data,
        page: PageLinks {
            next_cursor: next.map(|cursor| Cursor(cursor).to_string()),
        },
    }))
}

async fn page(
    storage: &dyn Storage,
    mut query: ListQuery,
) -> Result<(Vec<BatchView>, Option<BatchCursor>), StorageError> {
    /// The number of batches that are read at a time. Their values are dropped at once, so that a page of large batches
    /// needs little memory.
    const CHUNK: u32 = 16;
    const MOST_VALUES: usize = 500_000;
    let (mut data, mut values) = (Vec::new(), 0);
    loop {
        let chunk = query.limit.min(CHUNK);
        let page = storage.batches(&query.filter, query.after, chunk).await?;
        query.limit -= chunk;
        values += page
            .batches
            .iter()
            .map(|stored| stored.batch.values().len())
            .sum::<usize>();
        data.extend(
            page.batches
                .iter()
                .map(|stored| BatchView::of(stored, query.with_values)),
        );
        if page.next.is_none() || query.limit == 0 || values > MOST_VALUES {
            return Ok((data, page.next));
        }
        query.after = page.next;
    }
}

/// One stored batch.
#[utoipa::path(
    get, path = "/api/v1/batches/{id}", tag = "batches", operation_id = "get_batch",
    params(
        ("id" = Uuid, Path, description = "the batch's id"),
        ("values" = Option<bool>, Query, description = "true includes the array"),
    ),
    responses(
        (status = 200, description = "the batch", body = Success<BatchView>),
        (status = 400, description = "not an id"),
        (status = 404, description = "no such batch"),
    ),
)]
pub(super) async fn one(
    _: Authorized<Read>,
    request: HttpRequest,
    state: Data<State>,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let id: BatchId = id.parse().map_err(|refused: Invalid| Invalid {
        found: refused.found.escape_debug().to_string(),
        ..refused
    })?;
    let mut parameters = Parameters::of(&request)?;
    let with_values = values_wanted(&mut parameters);
    parameters.finish()?;
    let stored = state.database.read(state.storage.batch(id)).await?;
    let stored = stored.ok_or_else(|| Problem::not_found(format!("there is no batch {id}")))?;
    Ok(success(StatusCode::OK, BatchView::of(&stored, with_values)))
}

/// What became of a batch that was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The batch's id.
    #[schema(value_type = Uuid)]
    id: BatchId,
    /// `stored` now, or `already_stored` by an earlier attempt.
    #[schema(example = "stored")]
    outcome: &'static str,
}

/// Sends one batch or an array of them into the pipeline. The rankings show them once they have been counted, soon
/// after the answer. Retries are safe where batches carry an `id` or the request an `Idempotency-Key`; without
/// either, equal contents are the same batch.
#[utoipa::path(
    post, path = "/api/v1/batches", tag = "batches", operation_id = "submit_batches",
    params(("Idempotency-Key" = inline(Option<IdempotencyKey>), Header, description = "1 to 200 visible characters: names this request in every retry of it")),
    request_body(
        content = Batches,
        description = "a batch `{llm_name, metric, values, timestamp, …}` or an array of them; at most 16 MiB",
        example = json!({"llm_name": "GPT-4o", "metric": "ttft", "values": [1.3149, 0.1475], "timestamp": "2024-09-27T11:29:13.291565Z", "source": "imported"}),
    ),
    responses(
        (status = 202, description = "stored; one outcome per batch, in order", body = Success<Vec<Accepted>>),
        (status = 400, description = "not JSON of the right form"),
        (status = 403, description = "the key lacks the scope write"),
        (status = 409, description = "another batch is stored under the same id"),
        (status = 422, description = "a batch was refused, each named in errors; the others are stored"),
        (status = 503, description = "the database is away: the batches may or may not be stored; send the same request again later, which is safe"),
    ),
)]
pub(super) async fn submit(
    permit: Authorized<Write>,
    request: HttpRequest,
    state: Data<State>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    const UNKNOWN: &str = "the batches may or may not be stored; sending the same request again is safe: a batch that \
                           is stored is recognised by its id or content";
    let key = request
        .headers()
        .get("Idempotency-Key")
        .map(idempotency::key)
        .transpose()?;
    let body = read_body(&request, &state, payload, message::MAX_BODY_BYTES).await?;
    let mut batches = message::decode(&body)?;
    drop(body);
    if let Some(key) = key {
        batches = (0..)
            .zip(batches)
            .map(|(index, batch)| idempotency::with_derived_id(permit.namespace(), key, index, batch))
            .collect();
    }
    let ids: Vec<BatchId> = batches.iter().map(MetricBatch::id).collect();
    let outcomes = state
        .database
        .write(state.outbox.submit_without_waiting(batches), UNKNOWN)
        .await?;
    accepted(&ids, outcomes).map(|accepted| success(StatusCode::ACCEPTED, accepted))
}

fn accepted(ids: &[BatchId], outcomes: Vec<Recorded>) -> Result<Vec<Accepted>, Problem> {
    let (mut accepted, mut refusals) = (Vec::new(), Vec::new());
    for (index, (&id, outcome)) in ids.iter().zip(outcomes).enumerate() {
        let outcome = match outcome {
            Recorded::Stored => "stored",
            Recorded::AlreadyStored => "already_stored",
            Recorded::Refused(refusal) => {
                refusals.push((index, refusal));
                continue;
            }
        };
        accepted.push(Accepted { id, outcome });
    }
    if refusals.is_empty() {
        Ok(accepted)
    } else {
        Err(Problem::refused_batches(refusals, accepted.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let cursor = BatchCursor {
            timestamp: "2024-09-27T11:29:13.291565Z".parse().unwrap(),
            id: Uuid::from_u128(7).into(),
        };
        let Cursor(back) = Cursor(cursor).to_string().parse().unwrap();
        assert_eq!(back, cursor);
        for other in [
            "",
            "x",
            "é",
            "ffffffffffffffffffffffffffffffff",
            "0000000000000000-7",
        ] {
            assert!(other.parse::<Cursor>().is_err(), "{other}");
        }
    }
}
