//! Runs against the mock server: what is scheduled, when it is sent, and how every request ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod calibration;
mod closed_loop;
mod conservation;
mod open_loop;
mod recording;
mod shares;
