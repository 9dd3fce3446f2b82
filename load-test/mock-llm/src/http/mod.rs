//! As much of HTTP/1.1 as a client of these APIs speaks, without I/O.

mod body;
mod request;
mod response;

pub(crate) use request::{Method, Progress, Refusal, RequestHead, RequestReader};
pub(crate) use response::{Answer, END_OF_CHUNKS, chunk, stream_head};
