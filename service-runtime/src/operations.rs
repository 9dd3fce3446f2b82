//! The routes `/healthz`, `/readyz` and `/metrics`, the same for every service: on a server of their own or among other routes.

use std::{io, net::SocketAddr};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data, ServiceConfig},
};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::health::Health;

/// Adds the three routes.
pub fn routes(health: Health, metrics: Registry) -> impl FnOnce(&mut ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(Data::new(health))
            .app_data(Data::new(metrics))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics_page));
    }
}

/// A server with only these routes, and the address that it listens on.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(address: SocketAddr, health: Health, metrics: Registry) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(move || App::new().configure(routes(health.clone(), metrics.clone())))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(address)?;
    let bound = server.addrs().first().copied().unwrap_or(address);
    Ok((server.run(), bound))
}

/// A registry with the metrics of the process (memory, CPU time, file descriptors).
///
/// # Errors
/// Never for a fresh registry.
pub fn metrics_registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    Ok(registry)
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "alive"}))
}

async fn readyz(health: Data<Health>) -> HttpResponse {
    let report = health.report().await;
    if report.ready {
        HttpResponse::Ok().json(report)
    } else {
        HttpResponse::ServiceUnavailable().json(report)
    }
}

async fn metrics_page(metrics: Data<Registry>) -> HttpResponse {
    let mut page = Vec::new();
    match TextEncoder::new().encode(&metrics.gather(), &mut page) {
        Ok(()) => HttpResponse::Ok()
            .content_type(prometheus::TEXT_FORMAT)
            .body(page),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "metrics could not be encoded"
            );
            HttpResponse::InternalServerError().finish()
        }
    }
}
