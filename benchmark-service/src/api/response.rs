//! The responses of requests that succeed.

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
/// Caches may store the response and must revalidate it on each use.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// The body of most responses: `{"status": "success", "data": …}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Success<T> {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// What the request asks for.
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

/// A response with `data` in the envelope [`Success`].
pub(super) fn success<T: Serialize>(status: StatusCode, data: T) -> HttpResponse {
    HttpResponse::build(status).json(Success::of(data))
}

/// A response with a serialised body, or 304 if the client has this body already.
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

/// Adds the headers that say how fresh the data is. `X-Data-As-Of` changes with every confirmation by the database,
/// while the body and its entity tag stay the same.
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
