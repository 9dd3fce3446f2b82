use thiserror::Error;

/// Heads beyond this are refused, in bytes.
pub(crate) const MAX_HEAD: usize = 32 * 1024;
/// Bodies beyond this are refused, in bytes.
pub(crate) const MAX_BODY: usize = 16 * 1024 * 1024;
pub(super) const MAX_HEADERS: usize = 100;

/// Why a request is not read any further. The connection is closed after the response, because the beginning of the next request is
/// unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("the request is no HTTP/1.1: {0}")]
    NoHttp(httparse::Error),
    #[error("found HTTP/1.0, expected HTTP/1.1")]
    Version,
    #[error("the request's head is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    #[error("the request has more than {MAX_HEADERS} headers")]
    TooManyHeaders,
    #[error("the request's body is longer than {MAX_BODY} bytes")]
    BodyTooLong,
    #[error("content-length: found {0:?}, expected a number, once, and no transfer-encoding beside it")]
    Length(String),
    #[error("transfer-encoding: found {0:?}, expected chunked")]
    Encoding(String),
    #[error("the request's body is not in valid HTTP chunks")]
    Chunks,
    #[error("the request did not arrive within {0} s")]
    TooSlow(u64),
}

impl Refusal {
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::NoHttp(_) | Self::Length(_) | Self::Encoding(_) | Self::Chunks => 400,
            Self::TooSlow(_) => 408,
            Self::BodyTooLong => 413,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::Version => 505,
        }
    }
}
