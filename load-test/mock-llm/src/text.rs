//! The text of responses: words without digits, one for each token, that resemble English.

use std::sync::LazyLock;

/// 64 words with the space before them.
static ENGLISH: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let words = concat!(
        " the, of, and, to, in, a, is, that, for, it, as, was, with, be, by, on, not, he, this, are, or,",
        " his, from, at, which, but, have, an, had, they, you, were, their, one, all, we, can, her, has,",
        " there, been, if, more, when, will, would, who, so, no, summer, day, lovely, temperate, winds,",
        " darling, buds, season, heaven, golden, nature, eternal, shade, lines, breath",
    );
    words.split(',').collect()
});

/// 8 words with characters of two to four bytes, for the misbehaviour that cuts characters.
static BEYOND_ASCII: LazyLock<Vec<&str>> = LazyLock::new(|| {
    " naïve, déjà, größer, 日本語, Ελλάδα, привет, 🦀🚀, 한국어"
        .split(',')
        .collect()
});

/// The text of one response, a pure function of its seed.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    words: &'static [&'static str],
    start: usize,
    step: usize,
    /// The answer to the correctness test's question, which replaces the first word.
    first: Option<String>,
}

impl Text {
    pub(crate) fn new(seed: u64, first: Option<String>) -> Self {
        // Any mixing of the seed's bits is good enough to give consecutive requests different texts.
        let mixed = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u32 as usize;
        Self {
            words: &ENGLISH,
            start: mixed,
            // Odd, hence coprime to the 64 words, so that every word is used before one is repeated.
            step: (mixed >> 6) | 1,
            first,
        }
    }

    pub(crate) fn beyond_ascii(self) -> Self {
        Self {
            words: &BEYOND_ASCII,
            ..self
        }
    }

    /// Token `index`, with the space before it.
    pub(crate) fn token(&self, index: u32) -> &str {
        if index == 0 {
            return self.first.as_deref().unwrap_or_else(|| self.word(0).trim_start());
        }
        self.word(index)
    }

    fn word(&self, index: u32) -> &'static str {
        let place = self.start.wrapping_add(self.step.wrapping_mul(index as usize));
        self.words[place % self.words.len()]
    }

    /// The first `tokens` tokens as one text.
    pub(crate) fn whole(&self, tokens: u32) -> String {
        (0..tokens).map(|index| self.token(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_word_and_the_seed_decides() {
        let text = Text::new(5, None).whole(100);
        assert_eq!(text.split_whitespace().count(), 100);
        assert_eq!(text, text.trim());
        assert_eq!(text, Text::new(5, None).whole(100));
        assert_ne!(text, Text::new(6, None).whole(100));
        // Letters and spaces only, so that the text needs no escapes in JSON and contains no number.
        assert!(text.chars().all(|c| c == ' ' || c.is_ascii_alphabetic()));
        let other = Text::new(5, None).beyond_ascii().whole(20);
        assert!(other.split_whitespace().all(|word| !word.is_ascii()));
    }
}
