use llm_client::{Api, Endpoint, Provider};
use load_test::tokens::Hub;
use service_runtime::settings::Variables;
use shared_types::Secret;

use crate::context::{Context, UsageError, WrongInput};

/// Environment variables of other programs: APIs, tokenizers and tracking. They are not checked against the variables of this
/// program.
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

    /// The server's endpoint, from LLMPerf's variables or, where they are not set, those of newer client libraries.
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
    reason = "variables of other programs, which do not change while the process runs"
)]
fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
