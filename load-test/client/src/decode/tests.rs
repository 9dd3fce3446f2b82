use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Events around a text, `@`.
const FRAMES: [(Api, &str); 12] = [
    (
        Api::OpenAiChat,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":"stop"}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"reasoning_content":"@","content":""}}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"reasoning":"@","reasoning_content":"same"}}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"reasoning":"other","reasoning_content":"@"}}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"content":"@"}}],"usage":{"completion_tokens":3}}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"@"}}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"content":"a"}}],"note":"@"}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"","arguments":"@"}}]}}]}"#,
    ),
    (
        Api::OpenAiChat,
        r#"{"object":"@","message":"m","choices":[{"text":"x"}]}"#,
    ),
    (
        Api::AnthropicMessages,
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"@"}}"#,
    ),
    (
        Api::AnthropicMessages,
        r#"{"type":"@","delta":{"type":"text_delta","text":"x"}}"#,
    ),
];

/// What may stand between two quotes: texts, escapes good and bad, and what ends the string.
const TEXTS: [&[u8]; 24] = [
    b"",
    b"a",
    b"Hello, ",
    b"error",
    b"message_stop",
    "äß€😀".as_bytes(),
    b"\\n",
    b"a\\\"b",
    b"\\\\",
    b"\\u00e9",
    b"\\ud83d\\ude00",
    b"\\ud83d",
    b"\\u12",
    b"\\x",
    b"\\",
    b"\n",
    b"\x00",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\"",
    b"\",\"content\":\"b",
    b"\"},\"finish_reason\":\"stop\",\"x\":{\"y\":\"",
    b"x\"}}]}",
];

/// What was found, in a form that can be compared. A short way to it says the same as a long one.
fn shown(decoded: serde_json::Result<Decoded<'_>>) -> String {
    let mut found = match decoded {
        Err(_) => return "refused".to_owned(),
        Ok(Decoded::Text(kind, text)) => {
            let mut found = Found::default();
            found.text(kind, Text(text));
            found
        }
        Ok(Decoded::Found(found)) => *found,
    };
    // Of interest in documents only; no template says it.
    found.is_answer = false;
    // A mark for templates, nothing that is found.
    found.ambiguous = false;
    let owned = found.texts.iter().map(|(kind, text)| (*kind, text.to_string()));
    format!("{:?} {found:?}", owned.collect::<Vec<_>>())
}

fn filled(frame: &str, text: &[u8]) -> Vec<u8> {
    let (before, after) = frame.split_once('@').unwrap();
    [before.as_bytes(), text, after.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever came before, an event says what it says on its own.
    #[test]
    fn the_short_way_ends_where_the_long_one_does(
        api in select(&[Api::OpenAiChat, Api::AnthropicMessages][..]),
        events in vec((select(&FRAMES[..]), select(&TEXTS[..]), any::<bool>()), 1..12),
    ) {
        let mut decoder = Decoder::new(api);
        let mut last = events[0].0;
        for (frame, text, again) in events {
            // The same frame many times over, or no template would ever match.
            last = if again { last } else { frame };
            let event = filled(last.1, text);
            let alone = Decoder::new(api).event_in_full(&event).map(|found| Decoded::Found(Box::new(found)));
            prop_assert_eq!(
                shown(decoder.event(&event)),
                shown(alone),
                "{}", String::from_utf8_lossy(&event)
            );
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..80), api in select(&[Api::OpenAiChat, Api::AnthropicMessages][..])) {
        let mut decoder = Decoder::new(api);
        let _ = decoder.event(&filled(FRAMES[0].1, b"a"));
        let _ = decoder.event(&bytes);
        let _ = decoder.event(&filled(FRAMES[0].1, &bytes));
        let _ = decoder.document(&bytes);
    }
}

#[test]
fn the_short_way_is_taken() {
    for nth in [0, 2, 8, 10] {
        let (api, frame) = FRAMES[nth];
        let mut decoder = Decoder::new(api);
        let first = filled(frame, b"a");
        assert!(matches!(decoder.event(&first), Ok(Decoded::Found(_))));
        for text in ["b", "", "a \\\"quote\\\"\\n", "😀"] {
            let event = filled(frame, text.as_bytes());
            assert!(
                matches!(decoder.event(&event), Ok(Decoded::Text(..))),
                "{frame} {text}"
            );
        }
    }
}

#[test]
fn what_says_more_than_a_text_is_no_example() {
    for nth in [1, 4, 5, 6] {
        let (api, frame) = FRAMES[nth];
        let mut decoder = Decoder::new(api);
        for text in ["a", "b"] {
            let event = filled(frame, text.as_bytes());
            assert!(matches!(decoder.event(&event), Ok(Decoded::Found(_))), "{frame}");
        }
    }
}
