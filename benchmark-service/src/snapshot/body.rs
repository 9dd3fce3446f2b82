use actix_web::http::header::HeaderValue;
use bytes::Bytes;

/// A serialised body with its strong entity tag.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) etag: HeaderValue,
}

impl Body {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        const DIGITS: usize = 32;
        let hash = blake3::hash(&bytes).to_hex();
        let tag = format!("\"{}\"", &hash[..DIGITS]);
        #[expect(clippy::expect_used, reason = "quoted hexadecimal digits are a header value")]
        let etag = HeaderValue::try_from(tag).expect("an entity tag");
        Self {
            bytes: bytes.into(),
            etag,
        }
    }
}

/// Whether `If-None-Match` names `etag` (RFC 9110, 13.1.2: a list or `*`, compared weakly).
pub(crate) fn names_tag(if_none_match: &HeaderValue, etag: &HeaderValue) -> bool {
    let list = if_none_match.as_bytes();
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    list == etag.as_bytes()
        || list.trim_ascii() == b"*"
        || list
            .split(|&byte| byte == b',')
            .any(|tag| opaque(tag.trim_ascii()) == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_follows_the_bytes() {
        let body = Body::new(b"{}".to_vec());
        assert_eq!(body.etag, Body::new(b"{}".to_vec()).etag);
        assert_ne!(body.etag, Body::new(b"[]".to_vec()).etag);
        assert_eq!(body.etag.len(), 34);
    }

    #[test]
    fn tags_match_in_lists_weakly_and_by_star() {
        let etag = HeaderValue::from_static("\"abc\"");
        for (given, matches) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("*", true),
            ("\"x\", W/\"abc\" ,\"y\"", true),
            ("\"abcd\"", false),
            ("abc", false),
            ("", false),
        ] {
            assert_eq!(
                names_tag(&HeaderValue::from_static(given), &etag),
                matches,
                "{given}"
            );
        }
    }
}
