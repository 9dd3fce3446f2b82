//! A run on more than one machine.

mod share;

pub use share::{NoSuchShare, Share, TooManyWorkers, check, slice};
