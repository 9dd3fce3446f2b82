//! One file a command.

pub mod dead_letters;
pub mod doctor;
pub mod keys;
pub mod migrate;
pub mod probe;
pub mod rankings;
pub mod rebuild;
pub mod simulate;
pub mod up;
