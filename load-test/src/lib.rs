//! Load tests of LLM APIs that state the measuring client's own error.
//!
//! ```text
//! workload ─► prompts ─┐
//! arrivals ────────────┼─► run: worker threads ─► journal (requests.jsonl, publishing) ─► report
//! endpoint ────────────┘        └─ progress ─► display
//! ```
//!
//! A [`plan::Plan`] decides the whole course of a run. The worker threads only send, take timestamps and record. Everything that
//! costs time, such as tokenising, writing files and summarising, happens before or after the run or on another thread.

pub mod arrivals;
pub mod calibration;
pub mod compare;
pub mod correctness;
pub mod display;
mod evenly_spread;
mod histograms;
pub mod html;
pub mod http;
pub mod journal;
mod json_paths;
pub mod merge;
pub mod plan;
pub mod publish;
pub mod record;
pub mod report;
pub mod run;
#[cfg(test)]
mod scripted_server;
pub mod share;
pub mod share_file;
pub mod tokens;
pub mod tracking;
pub mod verdict;
pub mod workload;
