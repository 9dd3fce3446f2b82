use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    Api,
    api::{DecodedEvent, EventDecoder, ResponseData, json_text::JsonText},
};

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

/// What was read, in a form that can be compared, whether a template or the parser read it.
fn shown(decoded: serde_json::Result<DecodedEvent<'_>>) -> String {
    let mut found = match decoded {
        Err(_) => return "refused".to_owned(),
        Ok(DecodedEvent::Text(kind, text)) => {
            let mut found = ResponseData::default();
            found.push_text(kind, JsonText(text));
            found
        }
        Ok(DecodedEvent::Full(found)) => *found,
    };
    // Used for documents only; a template does not set it.
    found.is_generation = false;
    // It says something about templates, not about the event.
    found.is_no_template = false;
    let owned = found.texts.iter().map(|(kind, text)| (*kind, text.to_string()));
    format!("{:?} {found:?}", owned.collect::<Vec<_>>())
}

fn filled(frame: &str, text: &[u8]) -> Vec<u8> {
    let (before, after) = frame.split_once('@').unwrap();
    [before.as_bytes(), text, after.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Events before it do not change how an event is read.
    #[test]
    fn a_template_reads_what_the_parser_reads(
        api in select(&[Api::OpenAiChat, Api::AnthropicMessages][..]),
        events in vec((select(&FRAMES[..]), select(&TEXTS[..]), any::<bool>()), 1..12),
    ) {
        let mut decoder = EventDecoder::new(api);
        let mut last = events[0].0;
        for (frame, text, again) in events {
            // The same frame several times in a row, or no template would ever match.
            last = if again { last } else { frame };
            let event = filled(last.1, text);
            let alone = EventDecoder::new(api).parse_event(&event).map(|found| DecodedEvent::Full(Box::new(found)));
            prop_assert_eq!(
                shown(decoder.event(&event)),
                shown(alone),
                "{}", String::from_utf8_lossy(&event)
            );
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..80), api in select(&[Api::OpenAiChat, Api::AnthropicMessages][..])) {
        let mut decoder = EventDecoder::new(api);
        let _ = decoder.event(&filled(FRAMES[0].1, b"a"));
        let _ = decoder.event(&bytes);
        let _ = decoder.event(&filled(FRAMES[0].1, &bytes));
        let _ = decoder.document(&bytes);
    }
}

#[test]
fn events_that_differ_in_the_text_are_read_by_the_template() {
    for nth in [0, 2, 8, 10] {
        let (api, frame) = FRAMES[nth];
        let mut decoder = EventDecoder::new(api);
        let first = filled(frame, b"a");
        assert!(matches!(decoder.event(&first), Ok(DecodedEvent::Full(_))));
        for text in ["b", "", "a \\\"quote\\\"\\n", "😀"] {
            let event = filled(frame, text.as_bytes());
            assert!(
                matches!(decoder.event(&event), Ok(DecodedEvent::Text(..))),
                "{frame} {text}"
            );
        }
    }
}

#[test]
fn an_event_with_more_than_a_text_is_no_template() {
    for nth in [1, 4, 5, 6] {
        let (api, frame) = FRAMES[nth];
        let mut decoder = EventDecoder::new(api);
        for text in ["a", "b"] {
            let event = filled(frame, text.as_bytes());
            assert!(
                matches!(decoder.event(&event), Ok(DecodedEvent::Full(_))),
                "{frame}"
            );
        }
    }
}
