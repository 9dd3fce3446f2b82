//! No message does harm: the fuzzer's corpus, and many inputs near it, the same on every run.

#[path = "../../tests/fuzz/properties/decoding.rs"]
mod decoding;
#[path = "../../tests/fuzz/properties/mutation.rs"]
mod mutation;

use proptest::prelude::*;
use shared_types::message;

const TARGET: &str = "message_decode";

/// What JSON and our fields are made of, and what neither likes.
const TOKENS: &[&[u8]] = &[
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\"",
    b"-",
    b"-0.0",
    b"1e308",
    b"1e-324",
    b"1e999",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999999999",
    br"\u0000",
    br"\ud800",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\"values\":[",
    b"\"id\":\"",
    b"\"seed\":",
    b"\"checksum\":\"",
    b"\"timestamp\":\"9999-12-31T23:59:59.9999999Z\"",
    b"\"timestamp\":\"1970-01-01T00:00:60+23:59\"",
    b"\"source\":\"measured\"",
];

#[test]
fn the_corpus_does_no_harm() {
    mutation::corpus(TARGET)
        .iter()
        .for_each(|body| decoding::holds(body));
}

#[test]
fn nesting_without_end_is_refused() {
    const DEEP: usize = 1_000_000;
    for body in [
        "[".repeat(DEEP),
        "[".repeat(DEEP) + &"]".repeat(DEEP),
        r#"{"a":"#.repeat(DEEP),
        format!(r#"{{"unknown":{}"#, "[".repeat(DEEP)),
        format!(r#"[{{"values":{}"#, "[".repeat(DEEP)),
    ] {
        assert!(message::decode(body.as_bytes()).is_err());
    }
}

proptest! {
    #![proptest_config(mutation::fixed(20_000))]

    #[test]
    fn bodies_near_the_corpus_do_no_harm(body in mutation::near(TARGET, TOKENS)) {
        decoding::holds(&body);
    }
}
