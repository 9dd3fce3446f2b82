use std::sync::LazyLock;

use clap::{ValueEnum, builder::PossibleValue};
use llm_client::{Api, ApiName};

/// An API under one of the names that `--llm-api` accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LlmApi {
    pub(crate) api: Api,
    pub(crate) name: &'static ApiName,
}

static ALL: LazyLock<Vec<LlmApi>> = LazyLock::new(|| {
    let named = |api: &'static Api| api.names().iter().map(|name| LlmApi { api: *api, name });
    Api::ALL.iter().flat_map(named).collect()
});

impl ValueEnum for LlmApi {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name.name).help(self.name.help))
    }
}

impl LlmApi {
    /// The environment variables of all APIs, for the help.
    pub(super) fn environment_help() -> String {
        let same_provider = |one: &Self, other: &Self| one.api.provider() == other.api.provider();
        let of_provider = |apis: &[Self]| {
            let provider = apis[0].api.provider();
            let names: Vec<_> = apis.iter().map(|api| api.name.name).collect();
            format!(
                "{} [{}] and {} for {}",
                provider.base_url_variables[0],
                provider.base_url,
                provider.key_variable,
                names.join(", ")
            )
        };
        let all: Vec<_> = ALL.chunk_by(same_provider).map(of_provider).collect();
        all.join(";\n")
    }
}
