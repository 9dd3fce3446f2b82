//! The metrics of the registry.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared_types::{Bounds, Direction, Invalid, Metric, MetricId, MetricTitle, NewMetric, Unit};
use storage::MetricChange;
use utoipa::ToSchema;

use super::{
    State,
    request::read_json,
    response::{Success, success},
    row_id,
    schemas::{Better, RowPath, Text},
};
use crate::{
    auth::{Administer, Authorized, Read},
    problem::Problem,
};

/// A metric.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Metric)]
pub(super) struct MetricView {
    /// Its row.
    id: i64,
    /// Its title, unique, lower case.
    #[schema(example = "ttft")]
    title: String,
    /// The least simulated value.
    #[schema(example = 0.05)]
    lower_bound: f64,
    /// The greatest simulated value.
    #[schema(example = 2.0)]
    upper_bound: f64,
    /// The unit of its values.
    #[schema(example = "s")]
    unit: String,
    /// `lower` or `higher`: which way it is ranked.
    #[schema(example = "lower")]
    better: &'static str,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// When its row last changed.
    updated_at: DateTime<Utc>,
}

impl From<Metric> for MetricView {
    fn from(metric: Metric) -> Self {
        Self {
            id: metric.id.0,
            title: metric.title.into(),
            lower_bound: metric.bounds.lower(),
            upper_bound: metric.bounds.upper(),
            unit: metric.unit.into(),
            better: metric.better.as_str(),
            created_at: metric.created_at,
            updated_at: metric.updated_at,
        }
    }
}

/// A metric to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricInput {
    /// 1 to 200 characters; kept in lower case.
    #[schema(value_type = Text, example = "ttft")]
    title: MetricTitle,
    /// Finite.
    lower_bound: f64,
    /// Finite and greater than `lower_bound`.
    upper_bound: f64,
    /// 1 to 200 characters; `1` where it is not given.
    #[schema(value_type = Option<Text>, example = "s")]
    unit: Option<Unit>,
    /// `lower` (default) or `higher`.
    #[schema(value_type = Option<Better>)]
    better: Option<Direction>,
}

impl MetricInput {
    /// The unit of numbers that have none.
    const DIMENSIONLESS: &str = "1";

    fn checked(self) -> Result<NewMetric, Invalid> {
        Ok(NewMetric {
            title: self.title,
            unit: self.unit.map_or_else(|| Unit::new(Self::DIMENSIONLESS), Ok)?,
            bounds: Bounds::new(self.lower_bound, self.upper_bound)?,
            better: self.better.unwrap_or(Direction::Lower),
        })
    }
}

/// What changes on a metric. The title is fixed: messages are addressed by it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricPatch {
    /// Finite and less than the upper bound.
    lower_bound: Option<f64>,
    /// Finite and greater than the lower bound.
    upper_bound: Option<f64>,
    /// 1 to 200 characters.
    #[schema(value_type = Option<Text>)]
    unit: Option<Unit>,
    /// `lower` or `higher`.
    #[schema(value_type = Option<Better>)]
    better: Option<Direction>,
}

/// The metrics, in the order of their registration.
#[utoipa::path(
    get, path = "/api/v1/metrics", tag = "registry", operation_id = "list_metrics",
    responses((status = 200, description = "the metrics", body = Success<Vec<MetricView>>)),
)]
pub(super) async fn list(_: Authorized<Read>, state: Data<State>) -> Result<HttpResponse, Problem> {
    let metrics = state.database.read(state.storage.metrics()).await?;
    Ok(success(
        StatusCode::OK,
        metrics.into_iter().map(MetricView::from).collect::<Vec<_>>(),
    ))
}

/// Registers a metric, or brings an archived one back.
#[utoipa::path(
    post, path = "/api/v1/metrics", tag = "registry", operation_id = "create_metric", request_body = MetricInput,
    responses(
        (status = 201, description = "the metric", body = Success<MetricView>),
        (status = 409, description = "the title exists"),
        (status = 422, description = "a field was refused"),
    ),
)]
pub(super) async fn create(
    _: Authorized<Administer>,
    request: HttpRequest,
    state: Data<State>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let input: MetricInput = read_json(&request, &state, payload).await?;
    let new = input
        .checked()
        .map_err(|refused| Problem::unprocessable(vec![refused]))?;
    let change = state.storage.create_metric(&new, state.clock.now());
    let created = state.change_registry(change).await?;
    Ok(success(StatusCode::CREATED, MetricView::from(created)))
}

/// Changes a metric.
#[utoipa::path(
    patch, path = "/api/v1/metrics/{id}", tag = "registry", operation_id = "update_metric", request_body = MetricPatch,
    params(RowPath),
    responses(
        (status = 200, description = "the metric as it is now", body = Success<MetricView>),
        (status = 404, description = "no such metric"),
        (status = 422, description = "a field was refused"),
    ),
)]
pub(super) async fn update(
    _: Authorized<Administer>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<RowPath>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let id = MetricId(row_id(&path.id)?);
    let MetricPatch {
        lower_bound,
        upper_bound,
        unit,
        better,
    } = read_json(&request, &state, payload).await?;
    let change = MetricChange {
        lower_bound,
        upper_bound,
        unit,
        better,
    };
    let change = state.storage.update_metric(id, &change, state.clock.now());
    let updated = state.change_registry(change).await?;
    Ok(success(StatusCode::OK, MetricView::from(updated)))
}

/// Archives a metric: it leaves the rankings and the simulation, its batches stay.
#[utoipa::path(
    delete, path = "/api/v1/metrics/{id}", tag = "registry", operation_id = "archive_metric",
    params(RowPath),
    responses(
        (status = 204, description = "archived"),
        (status = 404, description = "no such metric"),
    ),
)]
pub(super) async fn archive(
    _: Authorized<Administer>,
    state: Data<State>,
    path: Path<RowPath>,
) -> Result<HttpResponse, Problem> {
    let id = MetricId(row_id(&path.id)?);
    let change = state.storage.archive_metric(id, state.clock.now());
    state.change_registry(change).await?;
    Ok(HttpResponse::NoContent().finish())
}
