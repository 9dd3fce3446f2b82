//! The HTTP API. Each resource has a file; this file has the routes and the state that all handlers share.

mod batches;
mod chunked_body;
mod deadline;
mod events;
pub(crate) mod health;
mod history;
mod idempotency;
mod llms;
mod metrics;
mod middleware;
mod openapi;
mod pages;
mod rankings;
mod request;
mod response;
mod schemas;
mod telemetry;

use std::{sync::Arc, time::Duration};

use actix_web::{
    FromRequest, Handler, HttpResponse, Resource, Responder,
    dev::{AppService, HttpServiceFactory},
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
use storage::{Storage, StorageError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

pub(crate) use deadline::DatabaseDeadline;
pub(crate) use middleware::around_every_request;
pub(crate) use telemetry::HttpTelemetry;

use crate::{auth::AccessControl, problem::Problem, projector::Rankings, snapshot::RankingSelection};
use openapi::ApiDocument;
use pages::Pages;

/// The state that all handlers share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rankings: Arc<Rankings>,
    pub(crate) default_selection: RankingSelection,
    /// How long the body of a request may take to arrive.
    pub(crate) body_deadline: Duration,
    /// How long a request may wait for the database.
    pub(crate) database: DatabaseDeadline,
    /// One permit for each open event stream.
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) open_event_streams: prometheus::IntGauge,
    /// Cancelled before the shutdown: every connection is then closed after its response, and event streams end, so that
    /// clients connect to another process.
    pub(crate) leaving: CancellationToken,
}

impl State {
    /// Changes the registry and requests a refresh of the rankings.
    async fn change_registry<T>(
        &self,
        change: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, Problem> {
        const UNKNOWN: &str = "the change may or may not have been made; read before sending it again";
        let changed = self.database.write(change, UNKNOWN).await?;
        self.rankings.refresh_soon();
        Ok(changed)
    }
}

/// The API, to be mounted in every worker's app.
#[derive(Clone)]
pub(crate) struct Api {
    state: Data<State>,
    access_control: Data<AccessControl>,
    pages: Data<Pages>,
    telemetry: HttpTelemetry,
    health: Data<Health>,
    registry: Data<Registry>,
}

impl Api {
    /// # Errors
    /// The OpenAPI document cannot be serialised.
    pub(crate) fn new(
        state: State,
        access_control: AccessControl,
        telemetry: HttpTelemetry,
        health: Health,
        registry: Registry,
    ) -> Result<Self, serde_json::Error> {
        let document = ApiDocument::openapi().to_pretty_json()?;
        Ok(Self {
            state: Data::new(state),
            access_control: Data::new(access_control),
            pages: Data::new(Pages::new(document)),
            telemetry,
            health: Data::new(health),
            registry: Data::new(registry),
        })
    }

    /// Mounts every route, the most requested routes first: the router tries them in this order.
    pub(crate) fn configure(&self, config: &mut ServiceConfig) {
        let route = |path: &'static str| ApiRoute::new(path, &self.telemetry);
        config
            .app_data(self.state.clone())
            .app_data(self.access_control.clone())
            .app_data(self.pages.clone())
            .app_data(self.health.clone())
            .app_data(self.registry.clone())
            .app_data(self.telemetry.route("other"))
            .service(route("/api/v1/benchmarks/rankings").get(rankings::all))
            .service(route("/api/v1/benchmarks/rankings/{metric}").get(rankings::one))
            .service(route("/api/v1/rankings/{metric}").get(rankings::one_shorter))
            .service(route("/ranking/{metric}").get(rankings::plain))
            .service(route("/api/v1/benchmark/{metric}").get(rankings::numbered))
            .service(route("/api/v1/events").get(events::events))
            .service(route("/api/v1/history").get(history::history))
            .service(
                route("/api/v1/batches")
                    .get(batches::list)
                    .on(Method::POST, batches::submit),
            )
            .service(route("/api/v1/batches/{id}").get(batches::one))
            .service(
                route("/api/v1/llms")
                    .get(llms::list)
                    .on(Method::POST, llms::create),
            )
            .service(
                route("/api/v1/llms/{id}")
                    .on(Method::PATCH, llms::update)
                    .on(Method::DELETE, llms::archive),
            )
            .service(
                route("/api/v1/metrics")
                    .get(metrics::list)
                    .on(Method::POST, metrics::create),
            )
            .service(
                route("/api/v1/metrics/{id}")
                    .on(Method::PATCH, metrics::update)
                    .on(Method::DELETE, metrics::archive),
            )
            .service(route("/").get(pages::index))
            .service(route("/status").get(pages::status))
            .service(route("/openapi.json").get(pages::document))
            .service(route("/docs").get(pages::swagger_folder))
            .service(route("/docs/{file:.*}").get(pages::swagger))
            .service(route("/redoc").get(pages::redoc))
            .service(route("/redoc/redoc.standalone.js").get(pages::redoc_script))
            .service(route("/healthz").get(health::healthz))
            .service(route("/readyz").get(health::readyz))
            .service(route("/servingz").get(health::servingz))
            .service(route("/metrics").get(health::metrics));
    }
}

/// A path with its methods. It counts its requests, answers OPTIONS, and refuses other methods with the list of its own.
struct ApiRoute {
    resource: Resource,
    methods: Vec<Method>,
}

impl ApiRoute {
    fn new(path: &'static str, telemetry: &HttpTelemetry) -> Self {
        Self {
            resource: web::resource(path).app_data(telemetry.route(path)),
            methods: vec![Method::OPTIONS],
        }
    }

    /// GET, and HEAD, which is GET without the body.
    fn get<F: Handler<A, Output: Responder>, A: FromRequest + 'static>(self, handler: F) -> Self {
        self.on(Method::GET, handler.clone()).on(Method::HEAD, handler)
    }

    fn on<F: Handler<A, Output: Responder>, A: FromRequest + 'static>(
        mut self,
        method: Method,
        handler: F,
    ) -> Self {
        self.resource = self.resource.route(web::method(method.clone()).to(handler));
        self.methods.push(method);
        self
    }
}

impl HttpServiceFactory for ApiRoute {
    fn register(self, service: &mut AppService) {
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
            .register(service);
    }
}

/// A row's number in a path.
fn row_id(raw: &str) -> Result<i64, Invalid> {
    raw.parse()
        .map_err(|_: std::num::ParseIntError| Invalid::new("id", raw.escape_debug(), "a whole number"))
}
