//! The faults themselves, by what is broken.

mod broker;
mod processes;

use crate::matrix::Fault;

/// Every fault, in the order of the numbers within each list.
pub(crate) const ALL: &[&[Fault]] = &[processes::FAULTS, broker::FAULTS];
