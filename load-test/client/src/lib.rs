//! The load test's client of LLM APIs: it sends one request and returns one record of what happened.
//!
//! An [`Endpoint`] knows where an API is and how its requests look; [`Endpoint::encode`] writes a request's body ahead of
//! time. A [`Client`] sends it ([`Client::exchange`]), follows the response, streamed or not, and returns an [`Exchange`]:
//! when it was sent and read, what the server said about it, and how it ended. An [`Observer`] receives the text as it
//! arrives.
//!
//! `wire/` reads and writes sockets; `api/` has one file for each API.
//!
//! All times are taken at the socket, before anything is decoded. On Linux they are the kernel's timestamps of the segments that
//! brought the bytes, so a busy client does not make the server look slow; elsewhere they are the time when the read returned.
//! This crate does not count tokens, compute statistics or write files.

mod api;
mod client;
mod endpoint;
mod excerpt;
mod exchange;
mod generation;
mod limits;
mod outcome;
mod response_body;
mod response_recorder;
mod wire;

pub use api::{Api, ApiName, Provider};
pub use client::Client;
pub use endpoint::{Endpoint, EndpointError};
pub use exchange::{ContentKind, Exchange, FinishReason, Observer, ServerTimestamps, Usage};
pub use generation::{Generation, Message, Prompt, Role};
pub use limits::Limits;
pub use outcome::{MissingResource, Outcome, StreamError, TransportError};
pub use wire::before_sleep;
