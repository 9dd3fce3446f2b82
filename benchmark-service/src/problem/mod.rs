//! Turns errors into HTTP responses: RFC 9457 problem details.

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

/// An error response.
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

/// A kind of problem: its status, the end of its URN, and the kind in words.
#[derive(Clone, Copy)]
struct Kind(StatusCode, &'static str, &'static str);

const INVALID: Kind = Kind(
    StatusCode::BAD_REQUEST,
    "invalid-request",
    "The request is not valid",
);
const MALFORMED: Kind = Kind(
    StatusCode::BAD_REQUEST,
    "malformed-body",
    "The body cannot be read",
);
const UNAUTHORIZED: Kind = Kind(StatusCode::UNAUTHORIZED, "unauthorized", "An API key is needed");
const FORBIDDEN: Kind = Kind(StatusCode::FORBIDDEN, "forbidden", "The API key lacks the scope");
const NOT_FOUND: Kind = Kind(StatusCode::NOT_FOUND, "not-found", "Not found");
const UNKNOWN_METRIC: Kind = Kind(StatusCode::NOT_FOUND, "unknown-metric", "There is no such metric");
const METHOD_NOT_ALLOWED: Kind = Kind(
    StatusCode::METHOD_NOT_ALLOWED,
    "method-not-allowed",
    "The method is not allowed here",
);
const TIMEOUT: Kind = Kind(
    StatusCode::REQUEST_TIMEOUT,
    "timeout",
    "The body did not arrive in time",
);
const NAME_TAKEN: Kind = Kind(StatusCode::CONFLICT, "name-taken", "The name is taken");
const ID_TAKEN: Kind = Kind(
    StatusCode::CONFLICT,
    "id-taken",
    "Another batch is stored under the same id",
);
const TOO_LARGE: Kind = Kind(
    StatusCode::PAYLOAD_TOO_LARGE,
    "too-large",
    "The body is too large",
);
const UNSUPPORTED_MEDIA_TYPE: Kind = Kind(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "unsupported-media-type",
    "The body's form is not supported",
);
const UNPROCESSABLE: Kind = Kind(
    StatusCode::UNPROCESSABLE_ENTITY,
    "unprocessable",
    "The content is not acceptable",
);
const REFUSED_BATCHES: Kind = Kind(
    StatusCode::UNPROCESSABLE_ENTITY,
    "refused-batches",
    "Batches were refused",
);
const TOO_MANY_REQUESTS: Kind = Kind(
    StatusCode::TOO_MANY_REQUESTS,
    "too-many-requests",
    "Too many requests",
);
const INTERNAL: Kind = Kind(
    StatusCode::INTERNAL_SERVER_ERROR,
    "internal",
    "The service failed",
);
const OVERLOADED: Kind = Kind(
    StatusCode::SERVICE_UNAVAILABLE,
    "overloaded",
    "The service is at its limit",
);
const DATABASE_UNAVAILABLE: Kind = Kind(
    StatusCode::SERVICE_UNAVAILABLE,
    "database-unavailable",
    "The database is unavailable",
);

impl Problem {
    fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let Kind(status, kind, title) = kind;
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

    fn refused(kind: Kind, refused: Vec<Invalid>) -> Self {
        let details: Vec<_> = refused.iter().map(ToString::to_string).collect();
        let mut problem = Self::new(kind, details.join("; "));
        problem.0.errors = refused.into_iter().map(FieldError::from).collect();
        problem
    }

    /// A part of the request is malformed: 400.
    pub(crate) fn invalid(refused: Vec<Invalid>) -> Self {
        Self::refused(INVALID, refused)
    }

    /// The request is well-formed and its content cannot be accepted: 422.
    pub(crate) fn unprocessable(refused: Vec<Invalid>) -> Self {
        Self::refused(UNPROCESSABLE, refused)
    }

    /// The body cannot be read as JSON: 400.
    pub(crate) fn malformed(detail: String) -> Self {
        Self::new(MALFORMED, detail)
    }

    /// What was asked for does not exist: 404.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(NOT_FOUND, detail)
    }

    /// No metric has this title: 404, with the titles that are known.
    pub(crate) fn unknown_metric(refused: Invalid) -> Self {
        Self::refused(UNKNOWN_METRIC, vec![refused])
    }

    /// The route exists, for other methods: 405.
    pub(crate) fn method_not_allowed(allowed: HeaderValue) -> Self {
        Self::new(
            METHOD_NOT_ALLOWED,
            "the header Allow names the methods of this route",
        )
        .with_header(header::ALLOW, allowed)
    }

    /// No key, or an unknown one: 401.
    pub(crate) fn unauthorized(detail: &'static str) -> Self {
        let challenge = HeaderValue::from_static("Bearer realm=\"llm-bench\"");
        Self::new(UNAUTHORIZED, detail).with_header(header::WWW_AUTHENTICATE, challenge)
    }

    /// The key's scope does not allow this: 403.
    pub(crate) fn forbidden(needed: &'static str) -> Self {
        Self::new(FORBIDDEN, format!("this needs a key with the scope {needed}"))
    }

    /// Too many requests of one caller: 429.
    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        Self::new(
            TOO_MANY_REQUESTS,
            "the header Retry-After says when to come again",
        )
        .with_retry_after(wait)
    }

    /// A limit of the whole service is reached: 503.
    pub(crate) fn overloaded(detail: &'static str) -> Self {
        Self::new(OVERLOADED, detail).with_retry_after(Duration::from_secs(5))
    }

    /// The database is away, or does not answer in time: 503.
    pub(crate) fn database_unavailable(detail: &'static str) -> Self {
        Self::new(DATABASE_UNAVAILABLE, detail).with_retry_after(Duration::from_secs(2))
    }

    /// The body is over the route's limit: 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(TOO_LARGE, format!("the body may have at most {limit} bytes"))
    }

    /// The body's media type or encoding is not supported: 415.
    pub(crate) fn unsupported_media_type(detail: &'static str) -> Self {
        Self::new(UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// The body did not arrive in time: 408.
    pub(crate) fn body_timeout() -> Self {
        Self::new(TIMEOUT, "the whole body must arrive within the deadline")
    }

    /// A fault of the service: 500. The log shows the cause.
    pub(crate) fn internal(cause: impl Into<BoxError>) -> Self {
        Self::new(INTERNAL, "the fault is in the service's log").caused_by(cause)
    }

    /// The framework's error response, as a problem.
    pub(crate) fn of_status(status: StatusCode, detail: String) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self::new(Kind(status, "http", title), detail)
    }

    /// Adds the error that the log is to show.
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

/// Escapes control characters: problems quote what was sent, and terminals and log viewers interpret them.
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
