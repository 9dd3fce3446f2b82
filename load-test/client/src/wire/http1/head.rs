use std::str;

use httparse::{Header, Status};

use super::Framing;
use crate::TransportError;

/// The most headers of a response; hyper has the same limit.
const MAX_HEADERS: usize = 100;

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// Whether the connection may serve another request.
    pub(crate) keeps_alive: bool,
    pub(crate) retry_after: Option<Box<str>>,
}

impl ResponseHead {
    /// Whether the status is 2xx.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the final response's head at the beginning of `bytes`. Returns it with its length, which includes interim responses (1xx)
    /// before it; `None` where it is incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, TransportError> {
        let mut interim = 0;
        loop {
            match Self::parse_one(&bytes[interim..])? {
                None => return Ok(None),
                Some((head, length)) if !(100..200).contains(&head.status) || head.status == 101 => {
                    return Ok(Some((head, interim + length)));
                }
                Some((_, length)) => interim += length,
            }
        }
    }

    fn parse_one(bytes: &[u8]) -> Result<Option<(Self, usize)>, TransportError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let Status::Complete(length) = response.parse(bytes).map_err(TransportError::Head)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        let headers = Headers(response.headers);
        let framing = headers.framing(status)?;
        let is_persistent = if response.version == Some(1) {
            !headers.has_token("connection", "close")
        } else {
            headers.has_token("connection", "keep-alive")
        };
        let is_delimited = !matches!(framing, Framing::UntilClose);
        let retry_after = headers.values("retry-after").next();
        let retry_after = retry_after.and_then(|value| str::from_utf8(value).ok());
        Ok(Some((
            Self {
                status,
                framing,
                keeps_alive: is_persistent && is_delimited && !headers.is_ambiguous(),
                retry_after: retry_after.map(Box::from),
            },
            length,
        )))
    }
}

struct Headers<'h, 'b>(&'h [Header<'b>]);

impl Headers<'_, '_> {
    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    /// The members of a comma-separated list, over all headers of that name.
    fn members(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let members = self
            .values(name)
            .flat_map(|value| value.split(|byte| *byte == b','));
        members
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.members(name)
            .any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the headers contain two framings, by mistake or as an attack on another reader that uses the other one. `Transfer-Encoding`
    /// wins, and the connection is not used again (RFC 9112, 6.1).
    fn is_ambiguous(&self) -> bool {
        self.values("transfer-encoding").next().is_some() && self.values("content-length").next().is_some()
    }

    /// The framing of the body (RFC 9112, 6.3).
    fn framing(&self, status: u16) -> Result<Framing, TransportError> {
        if (100..200).contains(&status) || status == 204 || status == 304 {
            return Ok(Framing::Length(0));
        }
        if let Some(last) = self.members("transfer-encoding").last() {
            return Ok(if last.eq_ignore_ascii_case(b"chunked") {
                Framing::chunked()
            } else {
                Framing::UntilClose
            });
        }
        let mut lengths = self.members("content-length").map(length);
        let Some(first) = lengths.next() else {
            return Ok(Framing::UntilClose);
        };
        let first = first.ok_or(TransportError::Framing("a Content-Length that is no number"))?;
        if lengths.any(|other| other != Some(first)) {
            return Err(TransportError::Framing("several Content-Lengths"));
        }
        Ok(Framing::Length(first))
    }
}

fn length(digits: &[u8]) -> Option<u64> {
    let are_digits = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| are_digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> ResponseHead {
        let bytes = format!("{head}\r\n\r\nrest");
        let (head, length) = ResponseHead::parse(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(&bytes[length..], "rest");
        head
    }

    #[test]
    fn the_headers_determine_the_end_of_the_body() {
        let cases = [
            ("200 OK\r\nContent-Length: 12", Framing::Length(12)),
            (
                "200 OK\r\ncontent-length: 5\r\ncontent-length: 5, 5",
                Framing::Length(5),
            ),
            ("200 OK\r\nTransfer-Encoding: Chunked", Framing::chunked()),
            ("200 OK\r\ntransfer-encoding: gzip, chunked", Framing::chunked()),
            (
                "200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 7",
                Framing::chunked(),
            ),
            ("200 OK\r\ntransfer-encoding: gzip", Framing::UntilClose),
            ("200 OK", Framing::UntilClose),
            ("204 No Content\r\ncontent-length: 5", Framing::Length(0)),
            ("304 Not Modified", Framing::Length(0)),
        ];
        for (head, framing) in cases {
            assert_eq!(parsed(&format!("HTTP/1.1 {head}")).framing, framing, "{head}");
        }
    }

    #[test]
    fn a_connection_is_kept_where_the_end_of_the_body_is_known() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 1", true),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: x, Close",
                false,
            ),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1", false),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: Keep-Alive",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1",
                false,
            ),
        ];
        for (head, keeps_alive) in cases {
            assert_eq!(parsed(head).keeps_alive, keeps_alive, "{head}");
        }
    }

    #[test]
    fn interim_responses_are_skipped() {
        let head = parsed(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 429 No\r\nretry-after: 7",
        );
        assert_eq!((head.status, head.retry_after.as_deref()), (429, Some("7")));
        assert!(
            ResponseHead::parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn contradicting_headers_are_refused() {
        for head in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: -1",
            "content-length: 1x",
        ] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            assert!(
                matches!(
                    ResponseHead::parse(bytes.as_bytes()),
                    Err(TransportError::Framing(_))
                ),
                "{head}"
            );
        }
        assert!(matches!(
            ResponseHead::parse(b"SSH-2.0-OpenSSH\r\n"),
            Err(TransportError::Head(_))
        ));
    }
}
