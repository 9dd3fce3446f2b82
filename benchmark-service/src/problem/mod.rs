//! The one place where errors become HTTP answers: RFC 9457 problem details.

mod conversions;

use std::{borrow::Cow, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use shared_types::Invalid;
use storage::BoxError;
use utoipa::ToSchema;

/// The media type of every error.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<BoxError>,
}

/// One refused part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Its path or name, such as `[2].values[17]` or `window`.
    pub(crate) field: String,
    /// What was found there.
    pub(crate) found: String,
    /// What would have been accepted.
    pub(crate) expected: String,
}

/// The body of every error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Names the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:llm-bench:problem:invalid-request")]
    kind: String,
    /// The kind in words.
    title: &'a str,
    /// The HTTP status.
    #[schema(example = 400)]
    status: u16,
    /// What happened this time.
    detail: &'a str,
    /// The refused parts, where parts were refused.
    errors: &'a [FieldError],
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            status,
            kind,
            title,
            detail: printable(detail.into()),
            errors: Vec::new(),
            headers: Vec::new(),
            source: None,
        }))
    }

    /// A part of the request is malformed: 400.
    pub(crate) fn invalid(refused: Vec<Invalid>) -> Self {
        Self::refused(
            StatusCode::BAD_REQUEST,
            "invalid-request",
            "The request is not valid",
            refused,
        )
    }

    /// The request is well-formed and says what cannot be: 422.
    pub(crate) fn unprocessable(refused: Vec<Invalid>) -> Self {
        Self::refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable",
            "The content is not acceptable",
            refused,
        )
    }

    fn refused(status: StatusCode, kind: &'static str, title: &'static str, refused: Vec<Invalid>) -> Self {
        let detail = refused
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        let mut problem = Self::new(status, kind, title, detail);
        problem.0.errors = refused.into_iter().map(FieldError::from).collect();
        problem
    }

    /// The body cannot be read as JSON: 400.
    pub(crate) fn malformed(detail: String) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed-body",
            "The body cannot be read",
            detail,
        )
    }

    /// What was asked for does not exist: 404.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// No metric has this title: 404, with the titles there are.
    pub(crate) fn unknown_metric(refused: Invalid) -> Self {
        Self::refused(
            StatusCode::NOT_FOUND,
            "unknown-metric",
            "There is no such metric",
            vec![refused],
        )
    }

    /// The route exists, for other methods: 405.
    pub(crate) fn method_not_allowed(allowed: HeaderValue) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not allowed here",
            "the header Allow names the methods of this route",
        )
        .with_header(header::ALLOW, allowed)
    }

    /// No key, or not one of ours: 401.
    pub(crate) fn unauthorized(detail: &'static str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "An API key is needed",
            detail,
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"llm-bench\""),
        )
    }

    /// The key may not do this: 403.
    pub(crate) fn forbidden(needed: &'static str) -> Self {
        let detail = format!("this needs a key with the scope {needed}");
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "The API key lacks the scope",
            detail,
        )
    }

    /// Too many requests of one caller: 429.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            "the header Retry-After says when to come again",
        )
        .with_retry_after(wait)
    }

    /// The service has as many of these as it can bear: 503.
    pub(crate) fn overloaded(detail: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "The service is at its limit",
            detail,
        )
        .with_retry_after(Duration::from_secs(5))
    }

    /// The database is away, or does not answer in time: 503.
    pub(crate) fn database_silent(detail: &'static str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database-unavailable",
            "The database is unavailable",
            detail,
        )
        .with_retry_after(Duration::from_secs(2))
    }

    /// The body is over the route's limit: 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("the body may have at most {limit} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            detail,
        )
    }

    /// The body is not in a form that is read: 415.
    pub(crate) fn unsupported_media_type(detail: &'static str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body's form is not supported",
            detail,
        )
    }

    /// The body did not arrive in time: 408.
    pub(crate) fn body_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "The body did not arrive in time",
            "the whole body must arrive within the deadline",
        )
    }

    /// A fault of ours: 500. The cause goes to the log.
    pub(crate) fn internal(cause: impl Into<BoxError>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The service failed",
            "the fault is in the service's log",
        )
        .caused_by(cause)
    }

    /// What another layer answered, in our form.
    pub(crate) fn of_status(status: StatusCode, detail: String) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self::new(status, "http", title, detail)
    }

    /// With the error that the log is to show.
    pub(crate) fn caused_by(mut self, cause: impl Into<BoxError>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }
}

/// What was sent is quoted in logs and on terminals, where control characters act.
pub(super) fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            escaped.extend(char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped.into()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.title, self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let inner = &*self.0;
        if inner.status.is_server_error()
            && let Some(source) = &inner.source
        {
            tracing::error!(
                error = source.as_ref() as &dyn std::error::Error,
                http.status = inner.status.as_u16(),
                "a request failed"
            );
        }
        let mut response = HttpResponse::build(inner.status);
        for (name, value) in &inner.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        let body = ProblemBody {
            kind: format!("urn:llm-bench:problem:{}", inner.kind),
            title: inner.title,
            status: inner.status.as_u16(),
            detail: &inner.detail,
            errors: &inner.errors,
        };
        response
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::CONTENT_TYPE, MEDIA_TYPE))
            .json(body)
    }
}
