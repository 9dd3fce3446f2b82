use std::ops::Range;

use super::{
    chunked_body::ChunkedBody,
    refusal::{MAX_BODY, MAX_HEAD, MAX_HEADERS, Refusal},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Other,
}

/// The parts of a request's head that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub keep_alive: bool,
    /// From `Authorization: Bearer` or `x-api-key`.
    pub key: Option<String>,
    /// From `x-mock-misbehaviour`.
    pub misbehaviour: Option<String>,
    expects_continue: bool,
    body: BodyLength,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Bytes(usize),
    Chunked,
}

/// How much of a request has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadProgress {
    /// More bytes are needed. `owes_continue` is set once when the client waits for `100 Continue`.
    Partial { owes_continue: bool },
    /// The request is complete and takes this many bytes of the buffer.
    Complete(usize),
}

/// Reads one request from a buffer that grows from call to call.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    head: Option<RequestHead>,
    chunked: ChunkedBody,
    body: Range<usize>,
}

impl RequestReader {
    /// Reads on in `buffer`, which holds all bytes since the beginning of the request.
    pub(crate) fn advance(&mut self, buffer: &[u8]) -> Result<ReadProgress, Refusal> {
        let mut is_new = false;
        if self.head.is_none() {
            self.head = parse_head(buffer)?;
            is_new = true;
        }
        let Some(head) = &self.head else {
            return Ok(ReadProgress::Partial { owes_continue: false });
        };
        let end = match head.body {
            BodyLength::Bytes(length) => {
                self.body = head.len..head.len + length;
                (buffer.len() >= self.body.end).then_some(self.body.end)
            }
            BodyLength::Chunked => {
                let end = self.chunked.advance(&buffer[head.len..], MAX_BODY)?;
                end.map(|length| head.len + length)
            }
        };
        Ok(end.map_or(
            ReadProgress::Partial {
                owes_continue: is_new && head.expects_continue && buffer.len() == head.len,
            },
            ReadProgress::Complete,
        ))
    }

    /// The head and the body of a complete request.
    pub(crate) fn request<'a>(&'a self, buffer: &'a [u8]) -> Option<(&'a RequestHead, &'a [u8])> {
        let head = self.head.as_ref()?;
        let body = match head.body {
            BodyLength::Bytes(_) => buffer.get(self.body.clone())?,
            BodyLength::Chunked => self.chunked.decoded(),
        };
        Some((head, body))
    }
}

fn parse_head(buffer: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(buffer) {
        Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD => len,
        Ok(httparse::Status::Partial) if buffer.len() <= MAX_HEAD => return Ok(None),
        Ok(_) => return Err(Refusal::HeadTooLong),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(error) => return Err(Refusal::NoHttp(error)),
    };
    if request.version != Some(1) {
        return Err(Refusal::Version);
    }
    let path = request.path.unwrap_or_default();
    let mut head = RequestHead {
        method: match request.method {
            Some("GET") => Method::Get,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        path: path.split('?').next().unwrap_or_default().to_owned(),
        keep_alive: true,
        key: None,
        misbehaviour: None,
        expects_continue: false,
        body: BodyLength::Bytes(0),
        len,
    };
    let mut has_length = false;
    for header in request.headers.iter() {
        read_header(&mut head, &mut has_length, *header)?;
    }
    Ok(Some(head))
}

fn read_header(
    head: &mut RequestHead,
    has_length: &mut bool,
    header: httparse::Header<'_>,
) -> Result<(), Refusal> {
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    let value = || String::from_utf8_lossy(header.value).trim().to_owned();
    if is("content-length") {
        let text = value();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if *has_length || !is_number || head.body == BodyLength::Chunked {
            return Err(Refusal::Length(text));
        }
        *has_length = true;
        // A number that overflows exceeds the limit too.
        match text.parse() {
            Ok(length) if length <= MAX_BODY => head.body = BodyLength::Bytes(length),
            _ => return Err(Refusal::BodyTooLong),
        }
    } else if is("transfer-encoding") {
        let text = value();
        if *has_length {
            return Err(Refusal::Length("a length and a transfer-encoding".to_owned()));
        }
        if !text.eq_ignore_ascii_case("chunked") {
            return Err(Refusal::Encoding(text));
        }
        head.body = BodyLength::Chunked;
    } else if is("connection") {
        head.keep_alive = !value()
            .split(',')
            .any(|option| option.trim().eq_ignore_ascii_case("close"));
    } else if is("expect") {
        head.expects_continue = value().eq_ignore_ascii_case("100-continue");
    } else if is("authorization") {
        head.key = value().strip_prefix("Bearer ").map(str::to_owned);
    } else if is("x-api-key") {
        head.key = Some(value());
    } else if is("x-mock-misbehaviour") {
        head.misbehaviour = Some(value());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &[u8] =
        b"POST /v1/messages?beta=1 HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\nx-mock-misbehaviour: redirect\r\n\
        Connection: close\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"POST /v1/completions HTTP/1.1\r\nauthorization: Bearer k\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nhe\r\n3;extension=1\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n";

    /// Reads `bytes` as they come in parts that end at `cuts`.
    fn read(bytes: &[u8], cuts: &[usize]) -> (RequestHead, Vec<u8>, usize) {
        let mut reader = RequestReader::default();
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            if let ReadProgress::Complete(length) = reader.advance(&bytes[..cut]).unwrap() {
                let (head, body) = reader.request(&bytes[..cut]).unwrap();
                return (head.clone(), body.to_vec(), length);
            }
        }
        panic!("it is complete");
    }

    #[test]
    fn head_and_body_are_read() {
        let (head, body, length) = read(PLAIN, &[]);
        assert_eq!((head.method, head.path.as_str()), (Method::Post, "/v1/messages"));
        assert_eq!(head.key.as_deref(), Some("k"));
        assert_eq!(head.misbehaviour.as_deref(), Some("redirect"));
        assert!(!head.keep_alive);
        assert_eq!((body.as_slice(), length), (&b"hello"[..], PLAIN.len()));
        let (head, body, length) = read(CHUNKED, &[]);
        assert_eq!(head.key.as_deref(), Some("k"));
        assert!(head.keep_alive);
        assert_eq!((body.as_slice(), length), (&b"hello"[..], CHUNKED.len()));
    }

    proptest! {
        #[test]
        fn any_split_and_what_follows_change_nothing(
            is_chunked: bool,
            mut cuts in prop::collection::vec(0_usize..150, 0..20),
            next in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let request = if is_chunked { CHUNKED } else { PLAIN };
            cuts.retain(|cut| *cut <= request.len());
            cuts.sort_unstable();
            let followed: Vec<u8> = request.iter().copied().chain(next).collect();
            prop_assert_eq!(read(&followed, &cuts), read(request, &[]));
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), is_body: bool) {
            let mut all = if is_body { CHUNKED[..CHUNKED.len() - 42].to_vec() } else { Vec::new() };
            all.extend(bytes);
            let mut reader = RequestReader::default();
            for end in 0..=all.len() {
                if reader.advance(&all[..end]).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn invalid_requests_are_refused_with_a_reason() {
        let length = "GET / HTTP/1.1\r\nContent-Length: ";
        for (bytes, status) in [
            ("\x01 / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), 505),
            (format!("{length}-1\r\n\r\n"), 400),
            (format!("{length}1\r\nContent-Length: 1\r\n\r\n"), 400),
            (format!("{length}1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
            (format!("{length}99999999999999999999\r\n\r\n"), 413),
            (format!("{length}{}\r\n\r\n", MAX_BODY + 1), 413),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
                400,
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".to_owned(),
                400,
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc".to_owned(),
                400,
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n".to_owned(),
                413,
            ),
            (format!("GET / HTTP/1.1\r\na: {}", "x".repeat(MAX_HEAD)), 431),
            (
                format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1)),
                431,
            ),
        ] {
            let refusal = RequestReader::default().advance(bytes.as_bytes()).unwrap_err();
            assert_eq!(refusal.status(), status, "{refusal}");
        }
    }

    #[test]
    fn a_client_that_expects_a_continue_gets_it_once() {
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut reader = RequestReader::default();
        let told = |owes_continue| Ok(ReadProgress::Partial { owes_continue });
        assert_eq!(reader.advance(&head[..20]), told(false));
        assert_eq!(reader.advance(head), told(true));
        assert_eq!(reader.advance(head), told(false));
    }
}
