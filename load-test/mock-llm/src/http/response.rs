use std::fmt::Write as _;

/// The end of a body in HTTP chunks.
pub(crate) const END_OF_CHUNKS: &[u8] = b"0\r\n\r\n";

/// A complete response, as opposed to a stream.
#[derive(Debug, Clone)]
pub(crate) struct HttpResponse {
    status: u16,
    headers: String,
    body: String,
}

impl HttpResponse {
    /// A response with a JSON body.
    pub(crate) fn json(status: u16, body: String) -> Self {
        Self {
            status,
            headers: String::new(),
            body,
        }
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(name);
        self.headers.push_str(": ");
        self.headers.push_str(value);
        self.headers.push_str("\r\n");
        self
    }

    /// The response as it is sent.
    pub(crate) fn bytes(&self, keep_alive: bool) -> Vec<u8> {
        let Self {
            status,
            headers,
            body,
        } = self;
        let mut text = String::with_capacity(160 + headers.len() + body.len());
        let (reason, connection) = (reason(*status), connection(keep_alive));
        let written = write!(
            text,
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}{connection}\r\n{body}",
            body.len()
        );
        debug_assert!(written.is_ok(), "a string takes everything");
        text.into_bytes()
    }
}

const fn connection(keep_alive: bool) -> &'static str {
    if keep_alive { "" } else { "connection: close\r\n" }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// The head of a response with a stream of events.
pub(crate) fn stream_head(keep_alive: bool) -> &'static [u8] {
    if keep_alive {
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    }
}

/// Appends one HTTP chunk that consists of `parts`. They must not all be empty, because an empty chunk ends the body.
pub(crate) fn chunk<'a>(out: &mut Vec<u8>, parts: impl Iterator<Item = &'a [u8]> + Clone) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut size: usize = parts.clone().map(<[u8]>::len).sum();
    debug_assert_ne!(size, 0, "an empty chunk ends the body");
    let mut digits = [0_u8; 16];
    let mut first = digits.len();
    while size > 0 {
        first -= 1;
        digits[first] = HEX[size & 15];
        size >>= 4;
    }
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(b"\r\n");
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_states_its_size_in_hex() {
        let mut out = Vec::new();
        let long = [b'x'; 300];
        chunk(&mut out, [b"ab".as_slice(), &long].into_iter());
        assert!(out.starts_with(b"12e\r\nabxx"));
        assert!(out.ends_with(b"xx\r\n"));
        assert_eq!(out.len(), 5 + 302 + 2);
    }

    #[test]
    fn a_response_states_its_length() {
        let response = HttpResponse::json(429, "{}".to_owned()).with_header("retry-after", "1");
        let expected = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 2\r\nretry-after: 1\r\n\
            connection: close\r\n\r\n{}";
        assert_eq!(response.bytes(false), expected.as_bytes());
    }
}
