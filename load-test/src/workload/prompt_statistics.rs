//! Statistics of the prompts of a run.

use serde::Serialize;

use super::{PreparedRequest, WorkloadError, parallel};
use crate::tokens::{Tokenizer, TokenizerDescription};

/// Longest word, bytes; longer ones are of scripts without spaces.
const LONGEST_WORD: usize = 32;

/// Statistics of the prompts of a run, for the report. Servers that cache answer repeated prompts and shared prefixes faster, so the
/// figures have to be read with them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptStatistics {
    /// Number of prompts; a longer run repeats them in order.
    pub prompts: usize,
    /// Different prompts over all prompts, 0 to 1.
    pub distinct_share: f64,
    /// Share of the different prompts' tokens that a server with an unbounded prefix cache has seen before, each prompt
    /// asked once: the tokens of the longest common prefix with any earlier prompt, over all tokens. (In a trie of the
    /// prompts: tokens less nodes, over tokens; the order does not matter.) Of a prompt's last common word only a whole one counts. 0 to 1.
    pub shared_prefix_share: f64,
    /// Lengths of the prompts.
    pub prompt_tokens: TokenRange,
    /// Lengths of answers that are asked for, of the requests with such a length.
    pub max_tokens: Option<TokenRange>,
    /// The tokenizer that counted.
    pub tokenizer: TokenizerDescription,
    /// Further notes for readers of the figures.
    pub notes: Vec<String>,
}

/// Lengths, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenRange {
    /// Arithmetic mean.
    pub mean: f64,
    /// The shortest.
    pub min: u32,
    /// The longest.
    pub max: u32,
}

impl TokenRange {
    fn of(lengths: impl Iterator<Item = u32> + Clone) -> Option<Self> {
        let sum: u64 = lengths.clone().map(u64::from).sum();
        Some(Self {
            mean: sum as f64 / lengths.clone().count() as f64,
            min: lengths.clone().min()?,
            max: lengths.max()?,
        })
    }
}

pub(super) fn of(
    requests: &[PreparedRequest],
    notes: Vec<String>,
    tokenizer: &Tokenizer,
) -> Result<PromptStatistics, WorkloadError> {
    let lengths = requests.iter().map(|request| request.prompt_tokens);
    let mut distinct: Vec<(String, u32)> = requests.iter().map(text_and_tokens).collect();
    distinct.sort_unstable();
    distinct.dedup_by(|one, other| one.0 == other.0);
    let tokens: u64 = distinct.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
    let shared = shared_tokens(&distinct, tokenizer)?;
    let nothing = TokenRange {
        mean: 0.0,
        min: 0,
        max: 0,
    };
    Ok(PromptStatistics {
        prompts: requests.len(),
        distinct_share: share(distinct.len() as u64, requests.len() as u64),
        shared_prefix_share: share(shared, tokens),
        prompt_tokens: TokenRange::of(lengths).unwrap_or(nothing),
        max_tokens: TokenRange::of(requests.iter().filter_map(|request| request.max_tokens)),
        tokenizer: tokenizer.describe().clone(),
        notes,
    })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn text_and_tokens(request: &PreparedRequest) -> (String, u32) {
    let texts: Vec<&str> = request.prompt.texts().collect();
    (texts.join("\n"), request.prompt_tokens)
}

/// In sorted order a prompt's longest common prefix with any before it is the one with its neighbour.
fn shared_tokens(sorted: &[(String, u32)], tokenizer: &Tokenizer) -> Result<u64, WorkloadError> {
    let pairs = sorted
        .windows(2)
        .map(|pair| (pair[0].0.as_str(), common_prefix(&pair[0].0, &pair[1].0)));
    // Consecutive pairs whose common prefixes have the same length share the same prefix, so it is counted once.
    let mut runs: Vec<(&str, u64)> = Vec::new();
    for (text, length) in pairs {
        match runs.last_mut() {
            Some((shared, times)) if shared.len() == length => *times += 1,
            _ => runs.push((&text[..length], 1)),
        }
    }
    let counted = parallel::in_order(runs.len(), |run| {
        let (shared, times) = runs[run];
        Ok::<_, WorkloadError>(u64::from(tokenizer.count(shared)?) * times)
    })?;
    Ok(counted.into_iter().sum())
}

/// Length in bytes, at a character boundary and, where one is near, at a word boundary, because a word that continues differently
/// is a different token.
fn common_prefix(one: &str, other: &str) -> usize {
    let same = one
        .bytes()
        .zip(other.bytes())
        .take_while(|(one, other)| one == other)
        .count();
    let same = one.floor_char_boundary(same);
    let ends_word = |text: &str, at: usize| text[at..].chars().next().is_none_or(char::is_whitespace);
    let near = one.floor_char_boundary(same.saturating_sub(LONGEST_WORD));
    let mut words = (near..=same).rev().filter(|at| one.is_char_boundary(*at));
    words
        .find(|at| ends_word(one, *at) && ends_word(other, *at))
        .unwrap_or(same)
}
