//! What goes out, when all is well.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::snapshot::{Body, Snapshot, names_tag};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
const AS_OF: HeaderName = HeaderName::from_static("x-data-as-of");
const STALE: HeaderName = HeaderName::from_static("x-data-stale");
/// Caches may keep it, and must ask whether it is still the same.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// The envelope of the routes that older clients use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Success<T> {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// What was asked for.
    data: T,
}

impl<T> Success<T> {
    pub(super) fn of(data: T) -> Self {
        Self {
            status: "success",
            data,
        }
    }
}

/// `{"status": "success", "data": …}` with the status given.
pub(super) fn success<T: Serialize>(status: StatusCode, data: T) -> HttpResponse {
    HttpResponse::build(status).json(Success::of(data))
}

/// A ready body, or 304 where the client has it already.
pub(super) fn prepared_body(request: &HttpRequest, body: &Body, content_type: HeaderValue) -> HttpResponse {
    let known = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .any(|tags| names_tag(tags, &body.etag));
    let mut response = if known {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = HttpResponse::Ok().body(body.bytes.clone());
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, body.etag.clone());
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    response
}

/// Adds how fresh the snapshot's data is. `X-Data-As-Of` moves on with every confirmation by the database, while the
/// body (and with it the entity tag) stays.
pub(super) fn with_freshness_headers(
    mut response: HttpResponse,
    as_of: HeaderValue,
    snapshot: &Snapshot,
) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(AS_OF, as_of);
    let stale = HeaderValue::from_static(if snapshot.stale { "true" } else { "false" });
    headers.insert(STALE, stale);
    response
}
