use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{LlmId, invalid::short_text_type};

short_text_type!(
    /// An LLM's name, such as `Llama 3.1 405`: 1 to 200 characters, case and inner spaces kept.
    LlmName,
    "llm_name",
    str::to_owned
);
short_text_type!(
    /// Who makes an LLM, such as `Meta`: 1 to 200 characters.
    Creator,
    "creator",
    str::to_owned
);

impl LlmName {
    /// The name as one word of an AMQP routing key: lower-case letters and digits, everything else a single `-`.
    #[must_use]
    pub fn slug(&self) -> String {
        slug(self.as_str())
    }
}

/// See [`LlmName::slug`]. Never empty: a name without letters or digits becomes `-`.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() || c == '_' {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    match slug.trim_matches('-') {
        "" => "-".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

impl Creator {
    /// The creator of LLMs that were first heard of in a message.
    #[must_use]
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }
}

/// An LLM of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Llm {
    /// Its row.
    pub id: LlmId,
    /// Its name, unique.
    pub name: LlmName,
    /// Who makes it.
    pub creator: Creator,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
}

/// An LLM to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLlm {
    /// Its name, unique.
    pub name: LlmName,
    /// Who makes it.
    pub creator: Creator,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_one_word_of_a_routing_key() {
        for (name, slug) in [
            ("GPT-4o", "gpt-4o"),
            ("Llama 3.1 405", "llama-3-1-405"),
            ("  a.b#c*  ", "a-b-c"),
            ("***", "-"),
            ("Ünïcode", "ünïcode"),
        ] {
            assert_eq!(LlmName::new(name).unwrap().slug(), slug);
        }
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(LlmName::new("  GPT-4o ").unwrap().as_str(), "GPT-4o");
        assert_eq!(
            LlmName::new(" \t").unwrap_err().to_string(),
            "llm_name: found an empty text, expected 1 to 200 characters without control characters"
        );
        assert!(LlmName::new(&"é".repeat(200)).is_ok());
        assert!(
            LlmName::new(&"é".repeat(201))
                .unwrap_err()
                .to_string()
                .contains("201 characters")
        );
        assert!(
            LlmName::new("a\0b")
                .unwrap_err()
                .to_string()
                .contains("control character")
        );
    }
}
