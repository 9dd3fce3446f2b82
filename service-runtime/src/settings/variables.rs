use std::{collections::BTreeMap, ffi::OsString, fmt, str::FromStr};

use config::{Config, ConfigError, Environment};
use shared_types::Invalid;

use super::{
    catalogue::{is_ours, is_read, probably_meant},
    dot_env::dot_env,
};
use crate::Secret;

/// The variables that settings are read from.
///
/// An empty value counts as not set, because compose files and Kubernetes manifests pass empty strings for unset variables.
#[derive(Clone)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The process's environment over the `.env` file in the working directory, where there is one.
    ///
    /// # Errors
    /// The `.env` file cannot be read, a variable is a misspelling of one of ours, or one of ours is not Unicode.
    pub fn from_process() -> Result<Self, Invalid> {
        let above = std::env::vars_os()
            .filter_map(unicode)
            .collect::<Result<_, _>>()?;
        Self::layered(dot_env()?, above)
    }

    /// The given variables only.
    ///
    /// # Errors
    /// A variable is a misspelling of one of ours.
    pub fn from_map(map: impl IntoIterator<Item = (String, String)>) -> Result<Self, Invalid> {
        Self::layered(BTreeMap::new(), map.into_iter().collect())
    }

    fn layered(below: BTreeMap<String, String>, above: BTreeMap<String, String>) -> Result<Self, Invalid> {
        let names: Vec<String> = below.keys().chain(above.keys()).cloned().collect();
        if let Some((found, meant)) = names.iter().find_map(|name| Some((name, probably_meant(name)?))) {
            return Err(Invalid::new(
                found,
                "a variable that llm-bench does not know",
                format!("perhaps {meant}"),
            ));
        }
        // Only variables that llm-bench reads: `config` would read a structure into a foreign name such as FOO.BAR.
        let layer = |map: BTreeMap<String, String>| {
            let ours = map.into_iter().filter(|(name, _)| is_read(name));
            Environment::default().source(Some(ours.collect()))
        };
        Config::builder()
            .add_source(layer(below))
            .add_source(layer(above))
            .build()
            .and_then(Config::try_deserialize::<BTreeMap<String, String>>)
            .map(|map| {
                Self(
                    map.into_iter()
                        .map(|(name, value)| (name.to_uppercase(), value))
                        .collect(),
                )
            })
            .map_err(|refused: ConfigError| Invalid::new("environment", refused, "variables of text"))
    }

    /// The same variables with `name` set to `value`, for settings from the command line.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// The same variables without those of the given names.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// Whether the variable is set.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A text.
    ///
    /// # Errors
    /// It holds control characters.
    pub fn text(&self, name: &str) -> Result<Option<String>, Invalid> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match raw.chars().find(|c| c.is_control()) {
            Some(control) => Err(Invalid::new(
                name,
                format_args!("the control character {control:?}"),
                "plain text",
            )),
            None => Ok(Some(raw.to_owned())),
        }
    }

    /// A secret text of at least `shortest` characters.
    ///
    /// # Errors
    /// It is shorter. The error does not show the value.
    pub fn secret(&self, name: &str, shortest: usize) -> Result<Option<Secret>, Invalid> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match raw.chars().count() {
            n if n < shortest => Err(Invalid::new(
                name,
                format_args!("{n} characters"),
                format!("at least {shortest} characters"),
            )),
            _ => Ok(Some(Secret::new(raw.to_owned()))),
        }
    }

    /// A value that parses and that `accept` accepts. `expected` describes it in the error.
    ///
    /// # Errors
    /// It does not parse, or `accept` refuses it.
    pub fn parsed<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
        accept: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Invalid> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match raw.parse() {
            Ok(value) if accept(&value) => Ok(Some(value)),
            Ok(_) | Err(_) => Err(Invalid::new(name, raw, expected)),
        }
    }

    /// `true` or `false`, also as `1`, `0`, `yes`, `no`, `on`, `off`, whatever the case.
    ///
    /// # Errors
    /// It is none of these.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Invalid> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match raw.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(Invalid::new(name, raw, "true or false")),
        }
    }
}

impl fmt::Debug for Variables {
    /// Shows the names only, because values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A variable as text. One with a name that is not Unicode is not ours and is left out. Of foreign variables only the names are
/// needed, so a value that is not Unicode becomes empty.
fn unicode((name, value): (OsString, OsString)) -> Option<Result<(String, String), Invalid>> {
    let name = name.into_string().ok()?;
    Some(match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) if is_ours(&name) => Err(Invalid::new(name, "bytes that are not Unicode", "text")),
        Err(_) => Ok((name, String::new())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        Variables::from_map(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
    }

    #[test]
    fn refusals_name_the_variable_what_was_found_and_what_is_expected() {
        let given = variables(&[
            ("MAX_RETRIES", "many"),
            ("CONSOLE_LOGGING", "maybe"),
            ("API_KEY", "short"),
        ]);
        assert_eq!(
            given
                .parsed::<u32>("MAX_RETRIES", "a whole number", |_| true)
                .unwrap_err()
                .to_string(),
            "MAX_RETRIES: found many, expected a whole number"
        );
        assert_eq!(
            given.flag("CONSOLE_LOGGING").unwrap_err().to_string(),
            "CONSOLE_LOGGING: found maybe, expected true or false"
        );
        let refused = given.secret("API_KEY", 16).unwrap_err().to_string();
        assert_eq!(
            refused,
            "API_KEY: found 5 characters, expected at least 16 characters"
        );
    }

    #[test]
    fn empty_is_not_set_and_the_upper_layer_wins() {
        assert!(!variables(&[("LOG_FILE", " ")]).is_set("LOG_FILE"));
        let map = |value: &str| BTreeMap::from([("LOG_FILE".to_owned(), value.to_owned())]);
        let layered = Variables::layered(map("below"), map("above")).unwrap();
        assert_eq!(layered.text("LOG_FILE").unwrap().as_deref(), Some("above"));
    }

    #[test]
    fn a_misspelt_variable_is_refused() {
        let refused = Variables::from_map([("SIMULATION_INTERVALL".to_owned(), "5".to_owned())]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "SIMULATION_INTERVALL: found a variable that llm-bench does not know, expected perhaps SIMULATION_INTERVAL"
        );
    }

    #[test]
    fn foreign_variables_are_left_alone() {
        let given = variables(&[("FOO.BAR", "1"), ("FOO", "2"), ("LOG_FILE", "a.log")]);
        assert_eq!(given.text("LOG_FILE").unwrap().as_deref(), Some("a.log"));
        assert!(!given.is_set("FOO"));
    }

    #[test]
    fn removed_variables_are_not_set_and_others_stay() {
        let left =
            variables(&[("LOG_FILE", "a.log"), ("RUST_LOG", "warn")]).without(&["LOG_FILE", "API_KEY"]);
        assert!(!left.is_set("LOG_FILE") && left.is_set("RUST_LOG"));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_of_ours_that_is_not_unicode_is_refused_and_one_of_others_is_not() {
        use std::os::unix::ffi::OsStringExt;
        let given = |name: &str| unicode((name.into(), OsString::from_vec(vec![b'a', 0xff])));
        assert_eq!(
            given("LOG_FILE").unwrap().unwrap_err().to_string(),
            "LOG_FILE: found bytes that are not Unicode, expected text"
        );
        assert!(given("LS_COLORS").unwrap().is_ok());
    }

    #[test]
    fn debug_shows_no_values() {
        assert!(!format!("{:?}", variables(&[("API_KEY", "canary-canary-canary")])).contains("canary"));
    }
}
