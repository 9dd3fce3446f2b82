//! The load test's client of LLM APIs: one request in, one record of what happened out.
//!
//! An [`Endpoint`] knows where an API is and how its requests look; [`Endpoint::encode`] writes a request's body ahead of
//! time. A [`Client`] sends it ([`Client::exchange`]), follows the answer, streamed or not, and returns an [`Exchange`]:
//! when what was sent and read, what the server said about it, and how it ended. Who wants the text as it comes is an
//! [`Observer`].
//!
//! All moments are taken at the socket, before anything is decoded: on Linux the kernel's stamps of the segments that brought the
//! bytes, so that a busy client is not a slow server; elsewhere when the read returns.
//! Nothing here counts tokens, computes statistics or writes files.

mod answer;
mod arrival;
mod body;
mod client;
mod connect;
mod connection;
mod decode;
mod endpoint;
mod excerpt;
mod exchange;
mod generation;
mod http1;
mod inbox;
mod lookout;
mod outcome;
mod socket;
mod sse;
mod tls;
mod transport;

pub use client::{Client, Limits};
pub use endpoint::{ANTHROPIC_BASE_URL, Api, Endpoint, EndpointError};
pub use exchange::{ContentKind, Exchange, Finish, Observer, ServerStamps, Usage};
pub use generation::{Generation, Message, Prompt, Role};
pub use http1::TransportError;
pub use lookout::before_sleep;
pub use outcome::{Dropped, Outcome, StreamError};
