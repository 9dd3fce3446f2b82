//! The HTTP API: one file per resource; here what they share and which path leads where.

mod answer;
mod batches;
mod deadline;
mod events;
mod gate;
pub(crate) mod health;
mod history;
mod idempotency;
mod llms;
mod metrics;
mod openapi;
mod pages;
mod rankings;
mod request;
mod schemas;
mod unread;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse, Resource, Route, guard,
    http::{
        Method,
        header::{self, HeaderValue},
    },
    web::{self, Data, ServiceConfig},
};
use outbox::Outbox;
use prometheus::Registry;
use service_runtime::health::Health;
use shared_types::{Clock, Invalid};
use storage::Storage;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use deadline::DatabaseDeadline;
pub(crate) use gate::gate;

use crate::{
    auth::Gatekeeper, metrics::HttpMetrics, problem::Problem, projector::Rankings, snapshot::Selection,
};

/// What handlers need.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rankings: Arc<Rankings>,
    pub(crate) default_selection: Selection,
    /// How long the body of a request may take to arrive.
    pub(crate) body_deadline: Duration,
    /// How long it may wait for the database.
    pub(crate) database: DatabaseDeadline,
    /// Limits the open event streams.
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) open_event_streams: prometheus::IntGauge,
    /// From then on every connection is closed after its answer, and event streams end, so that clients come back to
    /// another process and the server can end.
    pub(crate) leaving: CancellationToken,
}

/// The API, to be mounted in every worker's app.
#[derive(Clone)]
pub(crate) struct Api {
    state: Data<State>,
    gatekeeper: Data<Gatekeeper>,
    pages: Data<Pages>,
    metrics: HttpMetrics,
    health: Data<Health>,
    registry: Data<Registry>,
}

use pages::Pages;

impl Api {
    /// # Errors
    /// The OpenAPI document cannot be serialised.
    pub(crate) fn new(
        state: State,
        gatekeeper: Gatekeeper,
        metrics: HttpMetrics,
        health: Health,
        registry: Registry,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            state: Data::new(state),
            gatekeeper: Data::new(gatekeeper),
            pages: Data::new(Pages::new()?),
            metrics,
            health: Data::new(health),
            registry: Data::new(registry),
        })
    }

    /// Mounts every route. What is asked for most comes first: the router tries them in this order.
    pub(crate) fn configure(&self, config: &mut ServiceConfig) {
        let route = |path: &'static str| ApiRoute::new(path, &self.metrics);
        config
            .app_data(self.state.clone())
            .app_data(self.gatekeeper.clone())
            .app_data(self.pages.clone())
            .app_data(self.health.clone())
            .app_data(self.registry.clone())
            .app_data(self.metrics.route("other"))
            .service(
                route("/api/v1/benchmarks/rankings")
                    .get(get().to(rankings::all))
                    .done(),
            )
            .service(
                route("/api/v1/benchmarks/rankings/{metric}")
                    .get(get().to(rankings::one))
                    .done(),
            )
            .service(
                route("/api/v1/rankings/{metric}")
                    .get(get().to(rankings::one_shorter))
                    .done(),
            )
            .service(route("/ranking/{metric}").get(get().to(rankings::plain)).done())
            .service(
                route("/api/v1/benchmark/{metric}")
                    .get(get().to(rankings::numbered))
                    .done(),
            )
            .service(route("/api/v1/events").get(get().to(events::events)).done())
            .service(route("/api/v1/history").get(get().to(history::history)).done())
            .service(
                route("/api/v1/batches")
                    .get(get().to(batches::list))
                    .also(Method::POST, web::post().to(batches::submit))
                    .done(),
            )
            .service(route("/api/v1/batches/{id}").get(get().to(batches::one)).done())
            .service(
                route("/api/v1/llms")
                    .get(get().to(llms::list))
                    .also(Method::POST, web::post().to(llms::create))
                    .done(),
            )
            .service(
                route("/api/v1/llms/{id}")
                    .also(Method::PATCH, web::patch().to(llms::update))
                    .also(Method::DELETE, web::delete().to(llms::archive))
                    .done(),
            )
            .service(
                route("/api/v1/metrics")
                    .get(get().to(metrics::list))
                    .also(Method::POST, web::post().to(metrics::create))
                    .done(),
            )
            .service(
                route("/api/v1/metrics/{id}")
                    .also(Method::PATCH, web::patch().to(metrics::update))
                    .also(Method::DELETE, web::delete().to(metrics::archive))
                    .done(),
            )
            .service(route("/").get(get().to(pages::index)).done())
            .service(route("/status").get(get().to(pages::status)).done())
            .service(route("/openapi.json").get(get().to(pages::document)).done())
            .service(route("/docs").get(get().to(pages::swagger_folder)).done())
            .service(route("/docs/{file:.*}").get(get().to(pages::swagger)).done())
            .service(route("/redoc").get(get().to(pages::redoc)).done())
            .service(
                route("/redoc/redoc.standalone.js")
                    .get(get().to(pages::redoc_script))
                    .done(),
            )
            .service(route("/healthz").get(get().to(health::healthz)).done())
            .service(route("/readyz").get(get().to(health::readyz)).done())
            .service(route("/servingz").get(get().to(health::servingz)).done())
            .service(route("/metrics").get(get().to(health::metrics)).done());
    }
}

/// GET, and HEAD, which is GET without the body.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A path with its methods: counts its requests, answers OPTIONS, and refuses other methods with the list of its own.
struct ApiRoute {
    resource: Resource,
    methods: Vec<Method>,
}

impl ApiRoute {
    fn new(path: &'static str, metrics: &HttpMetrics) -> Self {
        Self {
            resource: web::resource(path).app_data(metrics.route(path)),
            methods: vec![Method::OPTIONS],
        }
    }

    fn get(mut self, route: Route) -> Self {
        self.methods.extend([Method::GET, Method::HEAD]);
        self.resource = self.resource.route(route);
        self
    }

    fn also(mut self, method: Method, route: Route) -> Self {
        self.methods.push(method);
        self.resource = self.resource.route(route);
        self
    }

    fn done(self) -> Resource {
        let names: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        #[expect(clippy::expect_used, reason = "method names are a header value")]
        let allowed = HeaderValue::try_from(names.join(", ")).expect("method names");
        let options = allowed.clone();
        self.resource
            .route(web::method(Method::OPTIONS).to(move || {
                let answer = HttpResponse::NoContent()
                    .insert_header((header::ALLOW, options.clone()))
                    .finish();
                async { answer }
            }))
            .default_service(web::to(move || {
                let refusal = Problem::method_not_allowed(allowed.clone());
                async { Err::<HttpResponse, _>(refusal) }
            }))
    }
}

/// A row's number in a path.
fn row_id(raw: &str) -> Result<i64, Invalid> {
    raw.parse()
        .map_err(|_: std::num::ParseIntError| Invalid::new("id", raw.escape_debug(), "a whole number"))
}
