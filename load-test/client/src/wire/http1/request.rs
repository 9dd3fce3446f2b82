use http::{HeaderMap, Uri};

/// The head of every request of a client, without the length of its body.
#[derive(Debug)]
pub(crate) struct RequestHead(Vec<u8>);

impl RequestHead {
    pub(crate) fn post(target: &Uri, headers: &HeaderMap) -> Self {
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let mut head = format!("POST {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"content-length: ");
        Self(head)
    }

    pub(crate) fn with_length(&self, length: usize) -> Vec<u8> {
        [self.0.as_slice(), length.to_string().as_bytes(), b"\r\n\r\n"].concat()
    }
}
