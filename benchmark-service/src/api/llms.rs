//! The LLMs of the registry.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared_types::{Creator, Llm, LlmId, LlmName, NewLlm};
use storage::LlmChange;
use utoipa::ToSchema;

use super::{
    State,
    request::read_json,
    response::{Success, success},
    row_id,
    schemas::{RowPath, Text},
};
use crate::{
    auth::{Administer, Authorized, Read},
    problem::Problem,
};

/// An LLM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Llm)]
pub(super) struct LlmView {
    /// Its row.
    id: i64,
    /// Its name, unique.
    #[schema(example = "GPT-4o")]
    name: String,
    /// Who makes it.
    #[schema(example = "OpenAI")]
    creator: String,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// When its row last changed.
    updated_at: DateTime<Utc>,
}

impl From<Llm> for LlmView {
    fn from(llm: Llm) -> Self {
        Self {
            id: llm.id.0,
            name: llm.name.into(),
            creator: llm.creator.into(),
            created_at: llm.created_at,
            updated_at: llm.updated_at,
        }
    }
}

/// An LLM to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LlmInput {
    /// 1 to 200 characters.
    #[schema(value_type = Text, example = "GPT-4o")]
    name: LlmName,
    /// 1 to 200 characters.
    #[schema(value_type = Text, example = "OpenAI")]
    creator: Creator,
}

/// What changes on an LLM. The name is fixed: messages are addressed by it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LlmPatch {
    /// 1 to 200 characters.
    #[schema(value_type = Option<Text>)]
    creator: Option<Creator>,
}

/// The LLMs, in the order of their registration.
#[utoipa::path(
    get, path = "/api/v1/llms", tag = "registry", operation_id = "list_llms",
    responses((status = 200, description = "the LLMs", body = Success<Vec<LlmView>>)),
)]
pub(super) async fn list(_: Authorized<Read>, state: Data<State>) -> Result<HttpResponse, Problem> {
    let llms = state.database.read(state.storage.llms()).await?;
    Ok(success(
        StatusCode::OK,
        llms.into_iter().map(LlmView::from).collect::<Vec<_>>(),
    ))
}

/// Registers an LLM, or brings an archived one back.
#[utoipa::path(
    post, path = "/api/v1/llms", tag = "registry", operation_id = "create_llm", request_body = LlmInput,
    responses(
        (status = 201, description = "the LLM", body = Success<LlmView>),
        (status = 409, description = "the name exists"),
        (status = 422, description = "a field was refused"),
    ),
)]
pub(super) async fn create(
    _: Authorized<Administer>,
    request: HttpRequest,
    state: Data<State>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let LlmInput { name, creator } = read_json(&request, &state, payload).await?;
    let new = NewLlm { name, creator };
    let change = state.storage.create_llm(&new, state.clock.now());
    let created = state.change_registry(change).await?;
    Ok(success(StatusCode::CREATED, LlmView::from(created)))
}

/// Changes an LLM.
#[utoipa::path(
    patch, path = "/api/v1/llms/{id}", tag = "registry", operation_id = "update_llm", request_body = LlmPatch,
    params(RowPath),
    responses(
        (status = 200, description = "the LLM as it is now", body = Success<LlmView>),
        (status = 404, description = "no such LLM"),
    ),
)]
pub(super) async fn update(
    _: Authorized<Administer>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<RowPath>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let id = LlmId(row_id(&path.id)?);
    let LlmPatch { creator } = read_json(&request, &state, payload).await?;
    let patch = LlmChange { creator };
    let change = state.storage.update_llm(id, &patch, state.clock.now());
    let updated = state.change_registry(change).await?;
    Ok(success(StatusCode::OK, LlmView::from(updated)))
}

/// Archives an LLM: it leaves the rankings and the simulation, its batches stay.
#[utoipa::path(
    delete, path = "/api/v1/llms/{id}", tag = "registry", operation_id = "archive_llm",
    params(RowPath),
    responses(
        (status = 204, description = "archived"),
        (status = 404, description = "no such LLM"),
    ),
)]
pub(super) async fn archive(
    _: Authorized<Administer>,
    state: Data<State>,
    path: Path<RowPath>,
) -> Result<HttpResponse, Problem> {
    let id = LlmId(row_id(&path.id)?);
    let change = state.storage.archive_llm(id, state.clock.now());
    state.change_registry(change).await?;
    Ok(HttpResponse::NoContent().finish())
}
