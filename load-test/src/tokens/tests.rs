//! Tokenizers of the kinds that models have, small and made by hand.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use std::path::Path;

use super::*;

/// Llama 3's, character by character; GPT-4's and Qwen's differ in the lengths of numbers only.
const LLAMA_3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn vocabulary(pieces: impl IntoIterator<Item = String>) -> Value {
    let mut ids = Map::new();
    for piece in pieces {
        let id = ids.len();
        ids.entry(piece).or_insert(id.into());
    }
    ids.into()
}

fn special(content: &str, id: u32) -> Value {
    json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
}

fn beginning_with(token: &str, id: u32) -> Value {
    json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    })
}

/// As Llama 3's: byte-level BPE, a regular expression with a look-ahead, and a BOS before every text.
pub(crate) fn byte_level_json() -> Value {
    let merges = [
        ["t", "h"],
        ["th", "e"],
        ["Ġ", "the"],
        ["Ġ", "t"],
        ["i", "n"],
        ["o", "u"],
        ["Ġ", "a"],
        ["an", "d"],
        ["a", "n"],
        ["e", "r"],
        [",", "Ċ"],
        ["t", "o"],
        ["to", "k"],
        ["e", "n"],
        ["tok", "en"],
        ["m", "m"],
        ["s", "u"],
        ["su", "mm"],
        ["summ", "er"],
    ];
    let mut bytes: Vec<_> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    bytes.sort();
    let pieces = bytes.into_iter().chain(merges.map(|pair| pair.concat()));
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special("<|begin_of_text|>", 1000)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA_3_SPLIT}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            beginning_with("<|begin_of_text|>", 1000),
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": vocabulary(pieces), "merges": merges,
        },
    })
}

/// As Qwen's: byte-level BPE with merges in their old form, behind a normaliser.
fn qwen_json() -> Value {
    let mut json = byte_level_json();
    json["normalizer"] = json!({"type": "NFC"});
    json["post_processor"] =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let merges = json["model"]["merges"].as_array().unwrap();
    let merges = merges
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    json["model"]["merges"] = merges.collect::<Vec<_>>().into();
    json
}

/// As BERT's: WordPiece of lower-cased words, `[CLS]` and `[SEP]` around every text, cut and padded to 16 tokens.
pub(crate) fn word_piece_json() -> Value {
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from);
    let characters = || ('!'..='~').filter(|c| !c.is_ascii_uppercase());
    let pieces = characters()
        .map(String::from)
        .chain(characters().map(|c| format!("##{c}")));
    let words = [
        "the", "and", "thou", "thy", "sum", "##mer", "love", "##ing", "token", "##s",
    ]
    .map(String::from);
    json!({
        "version": "1.0",
        "truncation": {"max_length": 16, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special("[PAD]", 0), special("[UNK]", 1), special("[CLS]", 2), special("[SEP]", 3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary(specials.into_iter().chain(pieces).chain(words)),
        },
    })
}

/// As T5's: the likeliest pieces of a unigram model, words led by `▁`, newlines unknown to it.
pub(crate) fn unigram_json() -> Value {
    let words = [
        "▁the", "▁thou", "▁and", "▁s", "er", "ing", "▁love", "th", "▁token", "▁t",
    ];
    let characters = (' '..='~').map(|c| {
        json!([
            if c == ' ' { '▁' } else { c },
            -8.0 - f64::from(u32::from(c)) / 100.0
        ])
    });
    let pieces = [json!(["<unk>", 0.0])].into_iter().chain(characters);
    let pieces = pieces.chain(words.map(|word| json!([word, -4.0])));
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special("<unk>", 0)],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": null,
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces.collect::<Vec<_>>(), "byte_fallback": false},
    })
}

/// As Llama 2's: SentencePiece's BPE over the whole text, a `▁` before it, bytes for what is unknown.
pub(crate) fn byte_fallback_json() -> Value {
    let merges = [
        ["t", "h"],
        ["▁", "th"],
        ["▁th", "e"],
        ["▁", "a"],
        ["n", "d"],
        ["▁a", "nd"],
        ["o", "u"],
        ["e", "r"],
    ];
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let characters = ('!'..='~').chain(['▁']).map(String::from);
    let pieces = ["<unk>", "<s>", "</s>"]
        .map(String::from)
        .into_iter()
        .chain(bytes)
        .chain(characters);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special("<unk>", 0), special("<s>", 1), special("</s>", 2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "post_processor": beginning_with("<s>", 1),
        "decoder": {"type": "ByteFallback"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true,
            "vocab": vocabulary(pieces.chain(merges.map(|pair| pair.concat()))), "merges": merges,
        },
    })
}

pub(crate) fn tokenizer(json: &Value) -> Tokenizer {
    let json = serde_json::to_vec(json).unwrap();
    Tokenizer::from_json(&json, "made by hand".to_owned(), TokenizerSource::File).unwrap()
}

/// One of every kind.
pub(crate) fn all() -> &'static [Tokenizer] {
    static ALL: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
        let made = [
            byte_level_json(),
            qwen_json(),
            word_piece_json(),
            unigram_json(),
            byte_fallback_json(),
        ];
        let bundled = ["o200k_base", "cl100k_base", "r50k_base"];
        let bundled = bundled.map(|name| Tokenizer::bundled(name).unwrap());
        made.iter().map(tokenizer).chain(bundled).collect()
    });
    &ALL
}

fn nowhere() -> Hub {
    Hub::from_vars(|name| (name == "HF_HUB_OFFLINE").then(|| "1".to_owned()))
}

#[test]
fn special_tokens_truncation_and_padding_are_not_counted() {
    let long = "the ".repeat(100);
    assert_eq!(tokenizer(&byte_level_json()).count("the the").unwrap(), 2);
    assert_eq!(tokenizer(&word_piece_json()).count(&long).unwrap(), 100);
    assert_eq!(tokenizer(&word_piece_json()).count("the summers").unwrap(), 4);
    assert_eq!(tokenizer(&unigram_json()).count("the thou").unwrap(), 2);
    assert_eq!(tokenizer(&byte_fallback_json()).count("the and").unwrap(), 2);
    assert_eq!(
        Tokenizer::bundled("o200k_base")
            .unwrap()
            .count("hello world")
            .unwrap(),
        2
    );
    for tokenizer in all() {
        assert_eq!(tokenizer.count("").unwrap(), 0, "{tokenizer:?}");
    }
}

#[test]
fn the_regular_expressions_with_look_ahead_hold() {
    // The last of several spaces belongs to the word behind them.
    let ends = tokenizer(&byte_level_json()).token_ends("a   the").unwrap();
    assert_eq!(ends, [1, 2, 3, 7]);
    assert_eq!(
        tokenizer(&qwen_json()).token_ends("a   the").unwrap(),
        [1, 2, 3, 7]
    );
}

#[test]
fn a_token_within_a_character_ends_behind_it() {
    assert_eq!(tokenizer(&byte_level_json()).token_ends("aé").unwrap(), [1, 3, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_token_has_an_end(text in "[ -~\n]{0,80}|\\PC{0,20}") {
        for tokenizer in all() {
            let ends = tokenizer.token_ends(&text).unwrap();
            prop_assert!(ends.is_sorted(), "{:?}", tokenizer);
            prop_assert!(ends.iter().all(|end| text.is_char_boundary(*end)));
            prop_assert_eq!(ends.len(), tokenizer.count(&text).unwrap() as usize);
            prop_assert_eq!(ends.len(), tokenizer.encode(&text).unwrap().len());
        }
    }
}

#[test]
fn text_that_looks_like_openais_special_tokens_is_text() {
    let tokenizer = Tokenizer::bundled("gpt-4o").unwrap();
    assert!(tokenizer.count("<|endoftext|>").unwrap() > 1);
}

#[test]
fn a_tokenizer_is_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Tokenizer>();
}

#[test]
fn a_file_and_its_directory_are_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokenizer.json");
    std::fs::write(&file, byte_level_json().to_string()).unwrap();
    for path in [directory.path(), &file] {
        let tokenizer = choose(path.to_str(), "whatever", &nowhere()).unwrap();
        assert_eq!(tokenizer.describe().kind, TokenizerKind::HuggingFace);
        assert_eq!(tokenizer.describe().source, TokenizerSource::File);
        assert_eq!(tokenizer.describe().id, file.to_str().unwrap());
    }
}

#[test]
fn what_is_no_tokenizer_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokenizer.json");
    let message = |id: &Path| choose(id.to_str(), "m", &nowhere()).unwrap_err().to_string();
    assert!(message(directory.path()).contains("expected a tokenizer.json, or a model's directory with one"));
    std::fs::write(&file, "{}").unwrap();
    assert!(message(&file).contains("not a tokenizer.json"));
    assert!(message(&directory.path().join("none/at/all")).contains("is no file here"));
    assert!(message(Path::new("../x")).contains("is no file here"));
}

#[test]
fn openais_models_have_their_own_vocabulary() {
    for (model, vocabulary) in [
        ("gpt-4o-mini", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("openai/gpt-oss-120b", "o200k_harmony"),
        ("o3", "o200k_base"),
    ] {
        let tokenizer = choose(None, model, &nowhere()).unwrap();
        let expected = TokenizerDescription {
            id: vocabulary.to_owned(),
            kind: TokenizerKind::Tiktoken,
            source: TokenizerSource::Bundled,
            note: None,
        };
        assert_eq!(tokenizer.describe(), &expected, "{model}");
    }
}

#[test]
fn the_default_says_that_it_is_one_and_why() {
    for (model, why) in [
        ("llama", "does not say which tokenizer"),
        ("meta-llama/Llama-3.1-8B", "HF_HUB_OFFLINE is set"),
    ] {
        let tokenizer = choose(None, model, &nowhere()).unwrap();
        let description = tokenizer.describe();
        assert_eq!(description.id, DEFAULT_VOCABULARY);
        assert_eq!(description.source, TokenizerSource::Default);
        assert!(
            description.note.as_ref().unwrap().contains(why),
            "{description:?}"
        );
    }
    let json = serde_json::to_value(choose(None, "llama", &nowhere()).unwrap().describe()).unwrap();
    assert_eq!(json["source"], "default");
    assert_eq!(json["kind"], "tiktoken");
}

#[test]
fn a_named_tokenizer_is_never_replaced() {
    let error = choose(Some("meta-llama/Llama-3.1-8B"), "gpt-4o", &nowhere()).unwrap_err();
    assert!(matches!(error, TokenizerError::Offline { .. }), "{error}");
}
