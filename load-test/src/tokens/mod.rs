//! Counting tokens as the model does.
//!
//! Counts never include special tokens: a BOS that a tokenizer puts before every text is no token of the prompt's or of
//! the answer's (LLMPerf counts it: llmperf#35).

mod choose;
mod download;
mod error;
mod hub;
mod tokenizer;

#[cfg(test)]
mod hub_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use self::{
    choose::{DEFAULT_VOCABULARY, choose},
    error::TokenizerError,
    hub::Hub,
    tokenizer::{Tokenizer, TokenizerDescription, TokenizerKind, TokenizerSource},
};
