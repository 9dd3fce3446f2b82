//! A tokenizer: a vocabulary, and the texts that it encodes.

use std::{collections::HashSet, path::Path};

use serde::Serialize;
use tiktoken_rs::{CoreBPE, tokenizer::Tokenizer as Encoding};

use super::TokenizerError;

/// The file that describes a tokenizer, in repositories of the hub and in models' directories.
pub(super) const FILE_NAME: &str = "tokenizer.json";

/// OpenAI's vocabularies by their own names.
const ENCODINGS: [(&str, Encoding); 7] = [
    ("o200k_base", Encoding::O200kBase),
    ("o200k_harmony", Encoding::O200kHarmony),
    ("cl100k_base", Encoding::Cl100kBase),
    ("p50k_base", Encoding::P50kBase),
    ("p50k_edit", Encoding::P50kEdit),
    ("r50k_base", Encoding::R50kBase),
    ("gpt2", Encoding::Gpt2),
];

/// A model's vocabulary and how texts are split into its tokens. Threads may share it.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    description: TokenizerDescription,
}

enum Vocabulary {
    HuggingFace(Box<tokenizers::Tokenizer>),
    OpenAi(&'static CoreBPE),
}

/// Describes a tokenizer, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerDescription {
    /// The file, the hub's id or the vocabulary's name.
    pub id: String,
    /// The format of its description.
    pub kind: TokenizerKind,
    /// Where it came from.
    pub source: TokenizerSource,
    /// A note for readers of the figures, such as why it is not the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The format of a tokenizer's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Hugging Face's `tokenizer.json`.
    HuggingFace,
    /// A vocabulary of OpenAI's.
    Tiktoken,
}

/// Where a tokenizer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerSource {
    /// A file that was named.
    File,
    /// The hub's cache on this machine.
    HubCache,
    /// Downloaded from the hub for this run.
    HubDownload,
    /// Part of the executable.
    Bundled,
    /// Part of the executable, and *not* the model's own tokenizer.
    Default,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the one in a model's directory.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let file = if path.is_dir() {
            path.join(FILE_NAME)
        } else {
            path.to_owned()
        };
        let json = std::fs::read(&file).map_err(|source| TokenizerError::Read {
            path: file.clone(),
            source,
        })?;
        Self::from_json(&json, file.display().to_string(), TokenizerSource::File)
    }

    /// Parses the text of a `tokenizer.json`; `id` and `source` are for the report.
    ///
    /// Truncation, padding and post-processing are removed: truncation would count too few tokens of long texts, padding too many of
    /// short ones, and post-processing adds special tokens and moves the tokens' ends.
    ///
    /// # Errors
    ///
    /// Where it is not a tokenizer.
    pub fn from_json(json: &[u8], id: String, source: TokenizerSource) -> Result<Self, TokenizerError> {
        let parsed = tokenizers::Tokenizer::from_bytes(json).and_then(|mut tokenizer| {
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None);
            tokenizer.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
            Ok(tokenizer)
        });
        let tokenizer = parsed.map_err(|source| TokenizerError::Parse {
            id: id.clone(),
            source,
        })?;
        Ok(Self {
            vocabulary: Vocabulary::HuggingFace(Box::new(tokenizer)),
            description: TokenizerDescription {
                id,
                kind: TokenizerKind::HuggingFace,
                source,
                note: None,
            },
        })
    }

    /// One of OpenAI's vocabularies, by its own name or by that of a model that has it; `None` where neither is known.
    pub fn bundled(name: &str) -> Option<Self> {
        // LiteLLM's names say the provider first.
        let name = name
            .strip_prefix("openai/")
            .or_else(|| name.strip_prefix("azure/"))
            .unwrap_or(name);
        let by_model = || tiktoken_rs::tokenizer::get_tokenizer(name);
        let by_name = ENCODINGS.iter().find(|(known, _)| *known == name);
        let encoding = by_name.map(|(_, encoding)| *encoding).or_else(by_model)?;
        let (id, _) = ENCODINGS.iter().find(|(_, known)| *known == encoding)?;
        let vocabulary = tiktoken_rs::bpe_for_tokenizer(encoding).ok()?;
        Some(Self {
            vocabulary: Vocabulary::OpenAi(vocabulary),
            description: TokenizerDescription {
                id: (*id).to_owned(),
                kind: TokenizerKind::Tiktoken,
                source: TokenizerSource::Bundled,
                note: None,
            },
        })
    }

    /// Which tokenizer this is.
    pub fn describe(&self) -> &TokenizerDescription {
        &self.description
    }

    /// Tokens of `text`, without special tokens around it.
    ///
    /// # Errors
    ///
    /// Where the vocabulary cannot encode a part of the text and has no token for unknown text.
    pub fn count(&self, text: &str) -> Result<u32, TokenizerError> {
        let tokens = match &self.vocabulary {
            Vocabulary::HuggingFace(tokenizer) => self.refused(tokenizer.encode_fast(text, false))?.len(),
            Vocabulary::OpenAi(vocabulary) => self.plain(vocabulary, text)?.len(),
        };
        Ok(u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// The ids of the tokens of `text`, without special tokens around it.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::count`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.vocabulary {
            Vocabulary::HuggingFace(tokenizer) => Ok(self
                .refused(tokenizer.encode_fast(text, false))?
                .get_ids()
                .to_vec()),
            Vocabulary::OpenAi(vocabulary) => self.plain(vocabulary, text),
        }
    }

    /// The position in `text` (bytes) where each of its tokens ends, ascending. For a token that ends within a character, as is
    /// possible with byte-level vocabularies, it is the end of the character.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::count`].
    pub fn token_ends(&self, text: &str) -> Result<Vec<usize>, TokenizerError> {
        let mut reached = 0;
        let mut ascending = |end: usize| {
            reached = text.ceil_char_boundary(end).max(reached);
            reached
        };
        match &self.vocabulary {
            Vocabulary::HuggingFace(tokenizer) => {
                let encoding = self.refused(tokenizer.encode(text, false))?;
                Ok(encoding
                    .get_offsets()
                    .iter()
                    .map(|(_, end)| ascending(*end))
                    .collect())
            }
            Vocabulary::OpenAi(vocabulary) => {
                let mut end = 0;
                let ends = self.plain(vocabulary, text)?.into_iter().map(|token| {
                    let bytes = vocabulary.decode_bytes(&[token]).map_err(Into::into);
                    end += self.refused(bytes)?.len();
                    Ok(ascending(end))
                });
                ends.collect()
            }
        }
    }

    /// Uses `encode`, because `encode_ordinary` panics where the vocabulary's regular expression fails.
    fn plain(&self, vocabulary: &CoreBPE, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoded = vocabulary.encode(text, &HashSet::new());
        self.refused(encoded.map_err(Into::into))
            .map(|(tokens, _)| tokens)
    }

    fn refused<T>(&self, encoded: tokenizers::Result<T>) -> Result<T, TokenizerError> {
        encoded.map_err(|source| TokenizerError::Encode {
            id: self.description.id.clone(),
            source,
        })
    }

    pub(super) fn with_source(mut self, source: TokenizerSource, note: Option<String>) -> Self {
        self.description.source = source;
        self.description.note = note;
        self
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Tokenizer")
            .field(&self.description)
            .finish()
    }
}
