//! A server that speaks OpenAI's and Anthropic's APIs with exactly known timings, to measure clients with.
//!
//! Every token of an answer has an absolute deadline: received + TTFT + k · ITL. The server states how late it was itself:
//! in its statistics for all tokens, and in the answer's field `mock_llm` for this one, in ns of `CLOCK_MONOTONIC`, which a
//! client on the same machine can subtract from its own stamps. It also misbehaves on demand ([`Misbehaviour`]).
//!
//! Endpoints: `POST /v1/chat/completions`, `/v1/completions`, `/v1/messages`, each streaming and not; `GET /v1/models`,
//! `/healthz`, `/stats`. A word is a token, in prompts and in answers. The question of LLMPerf's correctness test is answered
//! with the right number.
//!
//! Each core is a thread with a runtime of its own. Connection tasks read requests; one pacer a core writes what is due
//! directly to the sockets. HTTP is read with `httparse` on plain sockets.

mod answer;
mod api;
mod connection;
mod deadlines;
mod engine;
mod http;
mod intake;
mod misbehaviour;
mod number_words;
mod open_files;
mod route;
mod server;
mod settings;
mod stats;
mod text;

pub use misbehaviour::{Misbehaviour, UnknownMisbehaviour};
pub use open_files::raise_open_files_limit;
pub use server::MockLlm;
pub use settings::{ApiKey, ErrorRates, Settings, Stall};
pub use stats::{Lateness, Stats};
