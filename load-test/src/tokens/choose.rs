//! Which tokenizer a run counts with.

use std::path::Path;

use super::{
    TokenizerError,
    hub::{Hub, is_hub_id},
    tokenizer::{Tokenizer, TokenizerSource},
};
use crate::error_chain::describe;

/// What is counted with where nothing says or shows which tokenizer the model has.
pub const DEFAULT_VOCABULARY: &str = "o200k_base";

/// The tokenizer that `id` names, where one is named: a file or directory, a model or vocabulary of OpenAI's, or an id of
/// the hub's. Else the model's own by its name, where it is a model of OpenAI's, a directory, or an id of the hub's
/// (`organisation/name`, as vLLM serves them) whose tokenizer is to be had. Else [`DEFAULT_VOCABULARY`], with
/// [`TokenizerSource::Default`] and a note that says why.
///
/// So a model's name of the hub's form is told to the hub, unless the cache has it or `HF_HUB_OFFLINE` is set.
///
/// # Errors
///
/// Where the named tokenizer is not to be had. A model's name alone is never an error.
pub fn choose(id: Option<&str>, model: &str, hub: &Hub) -> Result<Tokenizer, TokenizerError> {
    if let Some(id) = id {
        return named(id, hub);
    }
    if let Some(tokenizer) = Tokenizer::bundled(model) {
        return Ok(tokenizer);
    }
    let names_more_than_itself = model.contains('/');
    let why = match names_more_than_itself.then(|| named(model, hub)) {
        Some(Ok(tokenizer)) => return Ok(tokenizer),
        Some(Err(error)) => describe(&error),
        None => format!("the name {model:?} does not say which tokenizer the model has"),
    };
    let note = format!("not the model's own tokenizer: {why}; name it with --tokenizer-id");
    // A vocabulary's own name is always known; were it not, this would still be an error and no panic.
    let default = Tokenizer::bundled(DEFAULT_VOCABULARY).ok_or_else(|| TokenizerError::Unknown {
        id: DEFAULT_VOCABULARY.to_owned(),
    })?;
    Ok(default.with_source(TokenizerSource::Default, Some(note)))
}

fn named(id: &str, hub: &Hub) -> Result<Tokenizer, TokenizerError> {
    let path = Path::new(id);
    if path.exists() {
        return Tokenizer::from_file(path);
    }
    if let Some(tokenizer) = Tokenizer::bundled(id) {
        return Ok(tokenizer);
    }
    if !is_hub_id(id) || id.ends_with(".json") {
        return Err(TokenizerError::Unknown { id: id.to_owned() });
    }
    hub.tokenizer(id)
}
