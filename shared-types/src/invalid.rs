use std::fmt;

/// Why a value from outside was refused: which field, what was found there, what is expected.
///
/// It is shown to people as it is: in problem+json answers, in dead letters' reasons and at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: found {found}, expected {expected}")]
pub struct Invalid {
    /// Path of the refused field, such as `values[3]`.
    pub field: String,
    /// What was found, shortened to what fits a line.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
}

impl Invalid {
    /// A refusal of `field`; `found` is cut to a readable length.
    pub fn new(field: impl Into<String>, found: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            found: shorten(&found.to_string()),
            expected: expected.into(),
        }
    }

    /// The same refusal seen from the outside, where the field lives below `parent`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => parent.to_owned(),
            field if field.starts_with('[') => format!("{parent}{field}"),
            field => format!("{parent}.{field}"),
        };
        self
    }
}

fn shorten(found: &str) -> String {
    const LONGEST: usize = 80;
    if found.chars().count() <= LONGEST {
        return found.to_owned();
    }
    found.chars().take(LONGEST).chain(std::iter::once('…')).collect()
}

/// A text of 1 to 200 characters after trimming, without control characters: what PostgreSQL, AMQP headers,
/// logs and tables can all show. Its canonical form is what counts: lower case may have more characters.
pub(crate) fn short_text(field: &str, raw: &str, canonical: fn(&str) -> String) -> Result<String, Invalid> {
    const LONGEST: usize = 200;
    let text = canonical(raw.trim());
    let expected = || format!("1 to {LONGEST} characters without control characters");
    match text.chars().count() {
        0 => return Err(Invalid::new(field, "an empty text", expected())),
        n if n > LONGEST => return Err(Invalid::new(field, format_args!("{n} characters"), expected())),
        _ => {}
    }
    match text.chars().find(|c| c.is_control()) {
        Some(control) => Err(Invalid::new(
            field,
            format_args!("the control character {control:?}"),
            expected(),
        )),
        None => Ok(text),
    }
}

/// A newtype around [`short_text`], with the conversions every name needs.
macro_rules! short_text_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $canonical:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `raw`: 1 to 200 characters after trimming, no control characters.
            ///
            /// # Errors
            /// Says what was found and what is expected.
            pub fn new(raw: &str) -> Result<Self, $crate::Invalid> {
                $crate::invalid::short_text($field, raw, $canonical).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::Invalid;

            fn try_from(raw: String) -> Result<Self, Self::Error> {
                Self::new(&raw)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Invalid;

            fn from_str(raw: &str) -> Result<Self, Self::Err> {
                Self::new(raw)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use short_text_type;
