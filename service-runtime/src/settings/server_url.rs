use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared_types::Invalid;
use url::Url;

use super::{Variables, port};
use crate::Secret;

/// The variables from which a server's URL is composed, and their defaults.
pub(super) struct UrlVariables {
    pub(super) scheme: &'static str,
    pub(super) host: &'static str,
    pub(super) port: &'static str,
    pub(super) user: &'static str,
    pub(super) password: &'static str,
    pub(super) default_port: u16,
    pub(super) default_user: &'static str,
    pub(super) default_password: Option<&'static str>,
}

impl UrlVariables {
    /// `<scheme>://<user>:<password>@<host>:<port>/<path>`, with user and password percent-encoded. `path` is encoded already.
    pub(super) fn compose(&self, variables: &Variables, host: &str, path: &str) -> Result<Secret, Invalid> {
        let port = port(variables, self.port)?.unwrap_or(self.default_port);
        let user = variables.text(self.user)?;
        let user = encoded(user.as_deref().unwrap_or(self.default_user));
        let password = variables.secret(self.password, 1)?;
        let password = password.as_ref().map(Secret::expose).or(self.default_password);
        let password = password.map_or(String::new(), |password| format!(":{}", encoded(password)));
        let url = format!("{}://{user}{password}@{host}:{port}/{path}", self.scheme);
        match Url::parse(&url) {
            Ok(_) => Ok(Secret::new(url)),
            Err(_) => Err(Invalid::new(self.host, host, "a host name or address")),
        }
    }
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Checks the URL of a server, which must have one of `schemes`. `missing` names a part that the parsed URL lacks. The error
/// does not show the URL, which may hold a password.
pub(super) fn checked(
    variable: &str,
    url: String,
    schemes: &[&str],
    expected: &str,
    missing: impl Fn(&Url) -> Option<&'static str>,
) -> Result<Secret, Invalid> {
    let found = match Url::parse(&url) {
        Err(malformed) => format!("a malformed URL ({malformed})"),
        Ok(parsed) if !schemes.contains(&parsed.scheme()) => format!("the scheme {}", parsed.scheme()),
        Ok(parsed) => match missing(&parsed) {
            None => return Ok(Secret::new(url)),
            Some(part) => format!("a URL without a {part}"),
        },
    };
    Err(Invalid::new(variable, found, expected))
}
