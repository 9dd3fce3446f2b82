use super::refusal::Refusal;

/// Decodes a body in HTTP chunks while it arrives.
#[derive(Debug, Default)]
pub(super) struct ChunkedBody {
    decoded: Vec<u8>,
    /// Where the next chunk begins, counted from the end of the head.
    at: usize,
    /// The last, empty chunk was read.
    in_trailer: bool,
}

/// The limit of the trailers, and of the extensions of one chunk, in bytes.
const MAX_LINE: usize = 4096;

impl ChunkedBody {
    /// Reads on in `bytes`, which are all bytes since the end of the head. Returns the length of the encoded body once it is complete.
    pub(super) fn advance(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Refusal> {
        while !self.in_trailer {
            let rest = &bytes[self.at..];
            let (line, size) = match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete((line, size))) => (line, size),
                Ok(httparse::Status::Partial) if rest.len() <= MAX_LINE => return Ok(None),
                _ => return Err(Refusal::Chunks),
            };
            let size = usize::try_from(size).map_err(|_overflow| Refusal::BodyTooLong)?;
            if size > limit - self.decoded.len() {
                return Err(Refusal::BodyTooLong);
            }
            if size == 0 {
                self.at += line;
                self.in_trailer = true;
                break;
            }
            let Some((data, end)) = rest.get(line..line + size + 2).map(|data| data.split_at(size)) else {
                return Ok(None);
            };
            if end != b"\r\n" {
                return Err(Refusal::Chunks);
            }
            self.decoded.extend_from_slice(data);
            self.at += line + size + 2;
        }
        self.end_of_trailer(bytes)
    }

    fn end_of_trailer(&self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let trailer = &bytes[self.at..];
        if trailer.starts_with(b"\r\n") {
            return Ok(Some(self.at + 2));
        }
        match trailer.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => Ok(Some(self.at + end + 4)),
            None if trailer.len() > MAX_LINE => Err(Refusal::Chunks),
            None => Ok(None),
        }
    }

    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }
}
