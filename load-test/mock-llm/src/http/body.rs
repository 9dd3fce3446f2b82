use super::Refusal;

/// A body in HTTP chunks, decoded as it arrives.
#[derive(Debug, Default)]
pub(super) struct ChunkedBody {
    decoded: Vec<u8>,
    /// Where in the bytes since the head the next chunk begins.
    at: usize,
    /// The last chunk, which is empty, was read.
    in_trailer: bool,
}

/// Trailers and the extensions of one chunk beyond this are refused, in bytes.
const MAX_LINE: usize = 4096;

impl ChunkedBody {
    /// Reads on in `bytes`, which are all since the head's end. Returns the length of the whole encoded body once it is there.
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
