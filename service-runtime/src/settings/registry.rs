use shared_types::{Invalid, LlmName, RegistrySeed};

use super::Variables;

/// The initial content of an empty registry: the standard metrics, and the LLMs of `LLM_MODELS_STR` or the standard four.
///
/// # Errors
/// A name is refused, or there is none.
pub fn registry_seed(variables: &Variables) -> Result<RegistrySeed, Invalid> {
    let standard = RegistrySeed::standard()?;
    let Some(list) = variables.text("LLM_MODELS_STR")? else {
        return Ok(standard);
    };
    let mut names: Vec<LlmName> = Vec::new();
    for name in list.split(',').filter(|name| !name.trim().is_empty()) {
        let name = LlmName::new(name).map_err(|refused| refused.within("LLM_MODELS_STR"))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Invalid::new("LLM_MODELS_STR", list, "names separated by commas"));
    }
    Ok(standard.with_llms(names))
}
