//! Shortens and cleans texts of a server before they are shown or stored.

use std::time::{Duration, SystemTime};

use serde_json::Value;

const MAX_CHARS: usize = 500;

/// The beginning of `text`: at most 500 characters, with a space for every control character.
pub(crate) fn excerpt(text: &str) -> Box<str> {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = text.trim().chars().take(MAX_CHARS).map(clean).collect();
    shown.into()
}

/// The beginning of `bytes` as text, shortened and cleaned like [`excerpt`].
pub(crate) fn excerpt_of_bytes(bytes: &[u8]) -> Box<str> {
    // A character has at most four bytes.
    let beginning = &bytes[..bytes.len().min(4 * MAX_CHARS)];
    excerpt(&String::from_utf8_lossy(beginning))
}

/// The message of an error value, which is a text or an object with a message.
pub(crate) fn error_message(error: &Value) -> Box<str> {
    let message = error.get("message").unwrap_or(error);
    message
        .as_str()
        .map_or_else(|| excerpt(&message.to_string()), excerpt)
}

/// The message in the body of an error response: `error.message`, `error`, `message` or `detail` of a JSON object, else its beginning.
pub(crate) fn refusal_message(body: &[u8]) -> Box<str> {
    let document = serde_json::from_slice::<Value>(body).ok();
    let named = document.as_ref().and_then(|document| {
        let fields = ["error", "message", "detail"].into_iter();
        fields
            .filter_map(|field| document.get(field))
            .find(|value| !value.is_null())
    });
    named.map_or_else(|| excerpt_of_bytes(body), error_message)
}

/// The delay of a `Retry-After` header, which holds seconds or a date; `now` is subtracted from a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_clean() {
        assert_eq!(&*excerpt(" a\u{1b}[31m\nb\u{85}c "), "a [31m b c");
        assert_eq!(excerpt(&"ä".repeat(9_000)).chars().count(), MAX_CHARS);
        assert_eq!(
            excerpt_of_bytes(&"€".repeat(9_000).into_bytes()).chars().count(),
            MAX_CHARS
        );
        assert_eq!(&*excerpt_of_bytes(b"\xff\x00x"), "\u{fffd} x");
    }

    #[test]
    fn the_message_of_an_error_response_is_found() {
        let cases = [
            (
                r#"{"error":{"message":"too many","type":"rate_limit"}}"#,
                "too many",
            ),
            (
                r#"{"error":"overloaded","error_type":"overloaded"}"#,
                "overloaded",
            ),
            (r#"{"object":"error","message":"no such model"}"#, "no such model"),
            (r#"{"detail":[{"loc":["body"]}]}"#, r#"[{"loc":["body"]}]"#),
            (r#"{"error":null,"message":"m"}"#, "m"),
            ("<html>\n502</html>", "<html> 502</html>"),
            ("", ""),
        ];
        for (body, expected) in cases {
            assert_eq!(&*refusal_message(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let cases = [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(
                retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
