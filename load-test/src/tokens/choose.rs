//! Which tokenizer a run counts with.

use std::path::Path;

use shared_types::ErrorChain;

use super::{
    TokenizerError,
    hub::{Hub, is_hub_id},
    tokenizer::{Tokenizer, TokenizerSource},
};

/// The vocabulary that counts where the model's tokenizer is not known.
pub const DEFAULT_VOCABULARY: &str = "o200k_base";

/// The tokenizer that `id` names, where it is given: a file or directory, a model or vocabulary of OpenAI's, or an id of the hub.
/// Otherwise the model's own tokenizer, found by the model's name: a model of OpenAI's, a directory, or an id of the hub
/// (`organisation/name`, as vLLM serves them). Otherwise [`DEFAULT_VOCABULARY`], with [`TokenizerSource::Default`] and a note with
/// the reason.
///
/// A model's name in the form of a hub id is sent to the hub, unless the cache has it or `HF_HUB_OFFLINE` is set.
///
/// # Errors
///
/// Where the named tokenizer is not available. A model's name alone is never an error.
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
        Some(Err(error)) => ErrorChain(&error).to_string(),
        None => format!("the name {model:?} does not say which tokenizer the model has"),
    };
    let note = format!("not the model's own tokenizer: {why}; name it with --tokenizer-id");
    // The default vocabulary is always known; an error instead of a panic in any case.
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
