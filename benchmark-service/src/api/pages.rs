//! The pages for people, and the OpenAPI document. Everything is compiled in: no page loads anything from another host.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::{Data, Path},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::response::{JSON, Success, prepared_body, success};
use crate::{problem::Problem, snapshot::Body};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
/// The scripts of the documentation set styles of elements and start workers from blobs.
const POLICY: (&str, &str) = (
    "Content-Security-Policy",
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; \
     frame-ancestors 'none'",
);

macro_rules! swagger_ui_file {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui/", $name))
    };
}

/// Name, content type and bytes of each file below `/docs/`.
const SWAGGER_UI: [(&str, &str, &[u8]); 8] = [
    (
        "index.html",
        "text/html; charset=utf-8",
        swagger_ui_file!("index.html"),
    ),
    (
        "index.css",
        "text/css; charset=utf-8",
        swagger_ui_file!("index.css"),
    ),
    (
        "swagger-ui.css",
        "text/css; charset=utf-8",
        swagger_ui_file!("swagger-ui.css"),
    ),
    (
        "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
        swagger_ui_file!("swagger-ui-bundle.js"),
    ),
    (
        "swagger-ui-standalone-preset.js",
        "text/javascript; charset=utf-8",
        swagger_ui_file!("swagger-ui-standalone-preset.js"),
    ),
    (
        "favicon-16x16.png",
        "image/png",
        swagger_ui_file!("favicon-16x16.png"),
    ),
    (
        "favicon-32x32.png",
        "image/png",
        swagger_ui_file!("favicon-32x32.png"),
    ),
    (
        "swagger-initializer.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../assets/swagger-initializer.js"),
    ),
];

/// The bodies of the pages, made once.
pub(super) struct Pages {
    index: Body,
    redoc: Body,
    redoc_script: Body,
    document: Body,
    swagger_ui: [(&'static str, HeaderValue, Body); 8],
}

impl Pages {
    /// `document` is the OpenAPI document as JSON.
    pub(super) fn new(document: String) -> Self {
        Self {
            index: Body::new(include_bytes!("../../assets/index.html").to_vec()),
            redoc: Body::new(include_bytes!("../../assets/redoc/index.html").to_vec()),
            redoc_script: Body::new(include_bytes!("../../assets/redoc/redoc.standalone.js").to_vec()),
            document: Body::new(document.into_bytes()),
            swagger_ui: SWAGGER_UI.map(|(name, content_type, bytes)| {
                (
                    name,
                    HeaderValue::from_static(content_type),
                    Body::new(bytes.to_vec()),
                )
            }),
        }
    }
}

pub(super) async fn index(request: HttpRequest, pages: Data<Pages>) -> HttpResponse {
    page(&request, &pages.index, HTML)
}

/// The OpenAPI document of this API.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", operation_id = "openapi_document", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Value)),
)]
pub(super) async fn document(request: HttpRequest, pages: Data<Pages>) -> HttpResponse {
    prepared_body(&request, &pages.document, JSON)
}

pub(super) async fn redoc(request: HttpRequest, pages: Data<Pages>) -> HttpResponse {
    page(&request, &pages.redoc, HTML)
}

pub(super) async fn redoc_script(request: HttpRequest, pages: Data<Pages>) -> HttpResponse {
    page(&request, &pages.redoc_script, JAVASCRIPT)
}

fn page(request: &HttpRequest, body: &Body, content_type: HeaderValue) -> HttpResponse {
    let mut response = prepared_body(request, body, content_type);
    if let Ok(policy) = HeaderValue::from_str(POLICY.1) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Redirects to the folder, because the paths of Swagger UI's files are relative to it.
pub(super) async fn swagger_folder() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((header::LOCATION, "/docs/"))
        .finish()
}

pub(super) async fn swagger(
    request: HttpRequest,
    pages: Data<Pages>,
    file: Path<String>,
) -> Result<HttpResponse, Problem> {
    let wanted = if file.is_empty() { "index.html" } else { &file };
    let (_, content_type, body) = pages
        .swagger_ui
        .iter()
        .find(|(name, ..)| *name == wanted)
        .ok_or_else(|| Problem::not_found("there is no such page"))?;
    Ok(page(&request, body, content_type.clone()))
}

/// What this is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    /// The service's name.
    title: &'static str,
    /// Its version.
    version: &'static str,
}

/// Name and version of the service.
#[utoipa::path(
    get, path = "/status", tag = "operation", security(()),
    responses((status = 200, description = "the service answers", body = Success<StatusView>)),
)]
pub(super) async fn status() -> HttpResponse {
    success(
        StatusCode::OK,
        StatusView {
            title: "benchmark-service",
            version: env!("CARGO_PKG_VERSION"),
        },
    )
}
