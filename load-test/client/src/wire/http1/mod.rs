//! The messages of HTTP/1.1 (RFC 9112), without I/O.
//!
//! hyper is not used because it passes every token through the state machine of a connection and a channel to the body, each with its
//! own wakers and a buffer for each connection. With thousands of streams all of that memory is cold in the cache at every token. Here
//! the request's own task reads the socket into a buffer of its thread, which stays in the cache, and the bytes go through [`Framing`]
//! into the event scanner within the same call. Between two reads a connection holds some ten bytes of state.

mod framing;
mod head;
mod request;

pub(crate) use framing::{BodyPiece, Framing};
pub(crate) use head::ResponseHead;
pub(crate) use request::RequestHead;
