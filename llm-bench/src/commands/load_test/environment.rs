use llm_client::{Api, Endpoint, Provider};
use load_test::tokens::Hub;
use service_runtime::settings::Variables;
use shared_types::Secret;

use crate::context::{Context, UsageError, WrongInput};

/// What the environment says about APIs, tokenizers and tracking: variables of others, so none of them is mistaken for a
/// misspelt one of ours.
pub(super) struct Environment(Variables);

impl Environment {
    pub(super) fn of(context: &Context) -> Self {
        Self(context.variables.clone())
    }

    /// A variable of the `.env` file or the process, where it is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let ours = self.0.text(name).ok().flatten();
        ours.or_else(|| process_variable(name))
            .filter(|value| !value.trim().is_empty())
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(Secret::new)
    }

    /// Where requests go. LLMPerf's names; those of the newer client libraries where they are not set.
    pub(super) fn endpoint(&self, api: Api, without_stream_usage: bool) -> anyhow::Result<Endpoint> {
        let Provider {
            base_url,
            base_url_variables,
            key_variable,
        } = api.provider();
        let base = base_url_variables.iter().find_map(|name| self.get(name));
        let key = self.secret(key_variable);
        if base.is_none() && key.is_none() {
            let expected = format!(
                "{key_variable}, or {} of a server that needs no key",
                base_url_variables[0]
            );
            return Err(UsageError(shared_types::Invalid::new(*key_variable, "nothing", expected)).into());
        }
        let endpoint = Endpoint::new(api, base.as_deref().unwrap_or(base_url), key)
            .map_err(|error| WrongInput(error.into()))?;
        Ok(if without_stream_usage {
            endpoint.without_stream_usage()
        } else {
            endpoint
        })
    }

    pub(super) fn hub(&self) -> Hub {
        Hub::from_vars(|name| self.get(name))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "these variables are others', and never change while the process runs"
)]
fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
