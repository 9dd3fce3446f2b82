//! The HTTP API of a broker's management plugin.

use std::fmt;

use crate::Error;

/// The URL of the plugin, with the administrator's name and password.
pub(super) struct Management {
    url: String,
}

impl Management {
    pub(super) fn at(url: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Creates what the definitions (JSON) list. Takes some milliseconds; `rabbitmqctl import_definitions` would start an Erlang
    /// machine.
    pub(super) async fn import(&self, definitions: String) -> Result<(), Error> {
        // The URL holds a password.
        let unreachable = |source: reqwest::Error| Error::Management {
            source: source.without_url(),
        };
        let answer = reqwest::Client::new()
            .post(format!("{}/api/definitions", self.url))
            .header("content-type", "application/json")
            .body(definitions)
            .send()
            .await
            .map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Error::ManagementRefused {
            status: status.as_u16(),
            answer: answer.text().await.map_err(unreachable)?,
        })
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url.rsplit_once('@').map_or("?", |(_, address)| address);
        formatter.debug_tuple("Management").field(&address).finish()
    }
}
