//! The part of HTTP/1.1 that clients of these APIs use, without I/O.

mod chunked_body;
mod refusal;
mod request;
mod response;

pub(crate) use refusal::Refusal;
pub(crate) use request::{Method, ReadProgress, RequestHead, RequestReader};
pub(crate) use response::{END_OF_CHUNKS, HttpResponse, chunk, stream_head};
