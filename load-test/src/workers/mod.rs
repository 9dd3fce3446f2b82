//! A run on more than one machine: a coordinator shares it out, workers carry it out, and their parts become one report.
//!
//! ```text
//! coordinate ── offers ──► queue ──► serve (prepare, run_share) ─┐
//!     ▲                                                          │ contribution: histograms, counts, verdict
//!     └───────────── merge ◄─────────────────────────────────────┘
//! ```
//!
//! All workers have the whole plan and make all prompts; each sends every n-th request ([`Share`]), so together they send what one
//! machine would. They begin together without comparing clocks: so long after each has received "start".
//!
//! # Who is lost
//!
//! A share is kept by its worker when the run starts. Before that, a worker that goes away gives its share back, and another may join
//! in its place ([`WorkerSection::left_before_start`](crate::report::model::WorkerSection::left_before_start)). From then on the share
//! is never given to anybody again: half of its requests may have been sent, and sending them again would be another load than the
//! one that was asked for. The worker's share is then missing, the report is invalid and says whose it was. Each side learns that the other
//! has gone because the broker returns what it says ([`ShareError::Gone`](broker::ShareError::Gone)); a frozen one is given up after
//! half a minute of silence. A worker whose coordinator has gone ends its run: nobody would hear of it.

mod contribution;
mod coordinate;
mod error;
mod merged;
mod messages;
mod serve;
mod share;

use std::time::Duration;

pub use self::{
    contribution::Contribution,
    coordinate::{Coordination, CoordinatorEvent, coordinate},
    error::CoordinateError,
    merged::Merged,
    messages::{Job, Made, MessageError, PROTOCOL_VERSION, WorkerName, digest},
    serve::{Runner, WorkError, WorkerEvent, serve},
    share::{NoSuchShare, Share, TooManyWorkers, check, slice},
};

/// How often each side shows that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// After that a side is given up although the broker has a connection to it.
const SILENCE: Duration = Duration::from_secs(30);
