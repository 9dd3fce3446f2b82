//! Liveness, readiness and the Prometheus metrics.

use std::{future::ready, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use prometheus::{Registry, TextEncoder};
use service_runtime::{
    health::{CachedPing, ComponentState, Health},
    lifecycle::Lifecycle,
};

use super::State;
use crate::{consumer::ConsumerState, dependencies::Dependencies, problem::Problem, projector::Rankings};

/// The components of this service.
pub(crate) fn components(
    life: &Lifecycle,
    dependencies: &Dependencies,
    consumer: Arc<ConsumerState>,
    rankings: Arc<Rankings>,
    stale_after: Duration,
) -> Health {
    let (ping, storage) = (Arc::new(CachedPing::default()), Arc::clone(&dependencies.storage));
    let (publisher, consume) = (dependencies.broker.publisher(), Arc::clone(&dependencies.broker));
    Health::of(life)
        .with("database", move || {
            let (ping, storage) = (Arc::clone(&ping), Arc::clone(&storage));
            async move { ping.state(storage.ping()).await }
        })
        .with("broker_publish", move || {
            ready(ComponentState::ready_unless(
                publisher.link().unavailable_reason(),
            ))
        })
        .with("broker_consume", move || {
            ready(ComponentState::ready_unless(
                consume.consume_link().unavailable_reason(),
            ))
        })
        .with("consumer", move || {
            ready(ComponentState::ready_unless(consumer.unready_reason()))
        })
        .with("rankings", move || {
            ready(match rankings.age() {
                None => ComponentState::missing("not loaded yet"),
                Some(age) if age > stale_after => {
                    ComponentState::missing(format!("{} s behind the database", age.as_secs()))
                }
                Some(_) => ComponentState::Ready,
            })
        })
}

/// The process is alive.
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = 200, description = "always, while the process lives", body = Value)),
)]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "alive"}))
}

/// Whether every component is usable, each with its state. While the database or the broker is away, rankings are
/// still served from memory.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = 200, description = "every component is ready", body = Value),
        (status = 503, description = "a component is missing", body = Value),
    ),
)]
pub(super) async fn readyz(health: Data<Health>) -> HttpResponse {
    let report = health.report().await;
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    HttpResponse::build(status).json(report)
}

/// Whether requests may be sent to this process, for load balancers: it has rankings, fresh or stale, and is not about
/// to end. Unlike `/readyz` it does not refuse while the database or the broker is away, because rankings are served then.
#[utoipa::path(
    get, path = "/servingz", tag = "operation", security(()),
    responses(
        (status = 200, description = "requests may be sent", body = Value),
        (status = 503, description = "the rankings are not loaded yet, or the process is about to end", body = Value),
    ),
)]
pub(super) async fn servingz(state: Data<State>) -> HttpResponse {
    let reason = if state.leaving.is_cancelled() {
        Some("about to end")
    } else if state.rankings.age().is_none() {
        Some("the rankings are not loaded yet")
    } else {
        None
    };
    match reason {
        None => HttpResponse::Ok().json(serde_json::json!({"serving": true})),
        Some(reason) => {
            HttpResponse::ServiceUnavailable().json(serde_json::json!({"serving": false, "reason": reason}))
        }
    }
}

/// Prometheus metrics.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "prometheus_metrics", security(()),
    responses((status = 200, description = "text exposition format 0.0.4", body = String, content_type = "text/plain")),
)]
pub(super) async fn metrics(registry: Data<Registry>) -> Result<HttpResponse, Problem> {
    let page = TextEncoder::new()
        .encode_to_string(&registry.gather())
        .map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .content_type(prometheus::TEXT_FORMAT)
        .body(page))
}
