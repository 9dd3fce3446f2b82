//! One file a command.

pub(crate) mod dead_letters;
pub(crate) mod doctor;
pub(crate) mod keys;
pub(crate) mod load_test;
pub(crate) mod migrate;
pub(crate) mod mock_llm;
pub(crate) mod probe;
pub(crate) mod rankings;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
pub(crate) mod simulate;
pub(crate) mod up;
