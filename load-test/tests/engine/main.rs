//! Runs against the mock server: what is scheduled, when it is sent, and how every request ends.

mod bench;
mod calibration;
mod closed_loop;
mod conservation;
mod open_loop;
mod recording;
