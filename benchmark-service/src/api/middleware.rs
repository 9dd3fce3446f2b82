use std::time::Instant;

use actix_web::{
    Error, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody, to_bytes_limited},
    dev::{ServiceRequest, ServiceResponse},
    error::HttpError,
    http::{
        ConnectionType, StatusCode, Uri,
        header::{self, HeaderValue},
        uri::PathAndQuery,
    },
    middleware::Next,
    web::Data,
};

use super::{State, chunked_body::ChunkedBody, telemetry::RouteTelemetry};
use crate::problem::Problem;

/// Runs around every request. It accepts trailing slashes, turns the framework's errors into problems, closes connections
/// whose request body was not read to its end and all connections before the shutdown, and counts requests.
pub(crate) async fn around_every_request(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    if request.path().ends_with('/') {
        without_trailing_slash(&mut request);
    }
    let chunked = ChunkedBody::of(&mut request);
    let mut response = next.call(request).await?.map_into_boxed_body();
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && !has_json_body(&response) {
        response = as_problem(response, status).await;
    }
    if leaving(&response) {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    if let Some(chunked) = chunked {
        response = response.map_body(|_, body| chunked.held_by_response(body));
    }
    let request = response.request();
    if let Some(telemetry) = request.app_data::<RouteTelemetry>() {
        telemetry.observe(request.method(), status, started.elapsed());
    }
    Ok(response)
}

fn leaving(response: &ServiceResponse<BoxBody>) -> bool {
    let state = response.request().app_data::<Data<State>>();
    state.is_some_and(|state| state.leaving.is_cancelled())
}

/// Removes trailing slashes, except from `/docs/`: the paths of Swagger UI's files are relative to it.
fn without_trailing_slash(request: &mut ServiceRequest) {
    let path = request.path().trim_end_matches('/');
    if path.is_empty() || path == "/docs" {
        return;
    }
    match with_path(request.uri(), path) {
        Ok(uri) => {
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a trailing slash stays, and nothing will be found there"
        ),
    }
}

fn with_path(uri: &Uri, path: &str) -> Result<Uri, HttpError> {
    let path_and_query = match uri.query() {
        None => PathAndQuery::try_from(path)?,
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}"))?,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    Ok(Uri::from_parts(parts)?)
}

/// Whether the body is JSON already: a problem, or the report of `/readyz`.
fn has_json_body(response: &ServiceResponse<BoxBody>) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|form: &HeaderValue| form.as_bytes().ends_with(b"json"))
}

/// Turns an error response of the framework into a problem with its text as the detail.
async fn as_problem(response: ServiceResponse<BoxBody>, status: StatusCode) -> ServiceResponse<BoxBody> {
    const LONGEST_DETAIL: usize = 1024;
    let (request, response) = response.into_parts();
    let (head, body) = response.into_parts();
    let text = match to_bytes_limited(body, LONGEST_DETAIL).await {
        Ok(Ok(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Err(error)) => {
            tracing::warn!(error = &*error, "the text of the framework's answer broke off");
            String::new()
        }
        Err(_longer) => {
            tracing::warn!(
                limit.bytes = LONGEST_DETAIL,
                "the text of the framework's answer is too long for a problem's detail"
            );
            String::new()
        }
    };
    let problem = if status == StatusCode::NOT_FOUND && text.is_empty() {
        Problem::not_found(format!("there is nothing at {}", request.path().escape_debug()))
    } else {
        Problem::of_status(status, text)
    };
    let mut described: HttpResponse = problem.error_response();
    if let Some(allow) = head.headers().get(header::ALLOW) {
        described.headers_mut().insert(header::ALLOW, allow.clone());
    }
    ServiceResponse::new(request, described)
}
