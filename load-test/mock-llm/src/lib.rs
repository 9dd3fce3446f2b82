//! A server that speaks OpenAI's and Anthropic's APIs with exactly known timings, to measure clients with.
//!
//! Every token of a response has an absolute deadline: received + TTFT + k · ITL. The server states its own lateness:
//! in its statistics for all tokens, and in the field `mock_llm` of each response, in ns of `CLOCK_MONOTONIC`, which a
//! client on the same machine can subtract from its own timestamps. It also misbehaves on demand ([`Misbehaviour`]).
//!
//! Endpoints: `POST /v1/chat/completions`, `/v1/completions`, `/v1/messages`, each streaming and not; `GET /v1/models`,
//! `/healthz`, `/stats`. A word is a token, in prompts and in responses. The question of LLMPerf's correctness test is answered
//! with the right number.
//!
//! Each core is a thread with a runtime of its own. The tasks of connections read requests; one pacer for each core writes tokens
//! to the sockets when they are due. HTTP is read with `httparse` on plain sockets. This crate shares no code with the client that
//! it measures, so that both cannot have the same error.

mod accept;
mod api;
mod connection;
mod deadlines;
mod http;
mod misbehaviour;
mod number_words;
mod pacer;
mod response;
mod route;
mod server;
mod server_state;
mod settings;
mod stats;
mod text;

pub use misbehaviour::{Misbehaviour, UnknownMisbehaviour};
pub use server::MockLlm;
pub use settings::{ApiKey, ErrorRates, Settings, Stall};
pub use stats::{Lateness, Stats};
