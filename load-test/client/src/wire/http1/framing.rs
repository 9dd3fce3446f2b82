use crate::TransportError;

/// The limit of chunk extensions and trailers, in bytes; no server needs more.
const MAX_SKIPPED_BYTES: u32 = 16 << 10;

/// How the end of a body is found, and how much of the body has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The number of missing bytes.
    Length(u64),
    Chunked(Chunked),
    /// The body ends with the connection.
    UntilClose,
}

/// The chunked transfer coding of RFC 9112, 7.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    /// The number of missing bytes of the chunk.
    missing: u64,
    skipped: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    Size,
    /// After the size, in an extension.
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    /// At the beginning of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

/// The next part of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyPiece<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The input is used up.
    NeedsInput,
    /// The body has ended.
    End,
}

impl Framing {
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked {
            state: State::SizeStart,
            missing: 0,
            skipped: 0,
        })
    }

    /// Removes the next piece from `input`.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<BodyPiece<'a>, TransportError> {
        match self {
            Self::Length(0) => Ok(BodyPiece::End),
            _ if input.is_empty() => Ok(BodyPiece::NeedsInput),
            Self::Length(missing) => Ok(BodyPiece::Data(take(missing, input))),
            Self::UntilClose => Ok(BodyPiece::Data(std::mem::take(input))),
            Self::Chunked(chunked) => chunked.next(input),
        }
    }

    /// Whether the message is complete if the connection ends now.
    pub(crate) fn may_end(&self) -> bool {
        match self {
            Self::UntilClose => true,
            Self::Length(missing) => *missing == 0,
            Self::Chunked(chunked) => chunked.state == State::End,
        }
    }
}

/// Up to `missing` bytes.
fn take<'a>(missing: &mut u64, input: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(*missing).map_or(input.len(), |missing| missing.min(input.len()));
    let (taken, rest) = input.split_at(length);
    *input = rest;
    *missing -= taken.len() as u64;
    taken
}

impl Chunked {
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<BodyPiece<'a>, TransportError> {
        loop {
            if self.state == State::End {
                return Ok(BodyPiece::End);
            }
            if self.state == State::Data {
                let data = take(&mut self.missing, input);
                if self.missing == 0 {
                    self.state = State::DataEnd;
                }
                return Ok(if data.is_empty() {
                    BodyPiece::NeedsInput
                } else {
                    BodyPiece::Data(data)
                });
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(BodyPiece::NeedsInput);
            };
            *input = rest;
            self.state = self.after(byte)?;
        }
    }

    fn after(&mut self, byte: u8) -> Result<State, TransportError> {
        let refused = |expected| Err(TransportError::Framing(expected));
        Ok(match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = self
                    .missing
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(digit.into()));
                let Some(size) = size else {
                    return refused("a chunk of more than 2^64 bytes");
                };
                self.missing = size;
                State::Size
            }
            (State::Size | State::Extension, b'\r') => State::SizeEnd,
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::SizeStart | State::Size, _) => return refused("a chunk's size that is no number"),
            (State::SizeEnd, b'\n') if self.missing == 0 => State::TrailerStart,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => State::SizeStart,
            (State::DataEnd | State::DataEndLf, _) => return refused("a chunk that is longer than its size"),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::End,
            (State::Extension | State::TrailerStart | State::Trailer, byte) if byte != b'\n' => {
                self.skipped += 1;
                if self.skipped > MAX_SKIPPED_BYTES {
                    return refused("chunk extensions and trailers without end");
                }
                if self.state == State::Extension {
                    State::Extension
                } else {
                    State::Trailer
                }
            }
            _ => return refused("a line of the chunks' own that does not end in CR and LF"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body, and the bytes after its end; `None` where the end is missing.
    fn decoded(mut framing: Framing, parts: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), TransportError> {
        let mut body = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let mut input = *part;
            loop {
                match framing.next(&mut input)? {
                    BodyPiece::Data(data) => {
                        assert!(!data.is_empty());
                        body.extend_from_slice(data);
                    }
                    BodyPiece::NeedsInput => break,
                    BodyPiece::End => {
                        let rest = [input, &parts[number + 1..].concat()].concat();
                        assert!(framing.may_end());
                        return Ok((body, Some(rest)));
                    }
                }
            }
        }
        Ok((body, None))
    }

    fn of_chunks(message: &str) -> Result<(String, Option<String>), TransportError> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (body, rest) = decoded(Framing::chunked(), &[message.as_bytes()])?;
        Ok((text(body), rest.map(text)))
    }

    #[test]
    fn chunks_are_decoded() {
        let whole = |body: &str, rest: &str| (body.to_owned(), Some(rest.to_owned()));
        let cases = [
            ("3\r\nabc\r\n0\r\n\r\nnext", whole("abc", "next")),
            ("0\r\n\r\n", whole("", "")),
            (
                "1;x=\"y\"\r\na\r\n00A\r\n0123456789\r\n0 ;z\r\n\r\n",
                whole("a0123456789", ""),
            ),
            ("1\r\na\r\n0\r\nexpires: never\r\nx: y\r\n\r\n", whole("a", "")),
        ];
        for (message, expected) in cases {
            assert_eq!(of_chunks(message).unwrap(), expected, "{message:?}");
        }
        for cut in [
            "",
            "3",
            "3\r\nab",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\n",
            "0\r\n\r",
            "0\r\nx: y\r\n",
        ] {
            assert_eq!(of_chunks(cut).unwrap().1, None, "{cut:?}");
        }
    }

    #[test]
    fn invalid_chunks_are_refused() {
        let long = format!("1;{}", "x".repeat(20_000));
        let trailers = format!("0\r\n{}", "x: y\r\n".repeat(5_000));
        for message in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "3\nabc",
            "3\r\nabcd\r\n",
            "3\r\nabc\rx",
            "10000000000000000\r\n",
            "1;x\ny",
            "0\r\nx: y\n\r\n",
            &long,
            &trailers,
        ] {
            assert!(
                matches!(of_chunks(message), Err(TransportError::Framing(_))),
                "{message:.30?}"
            );
        }
    }

    #[test]
    fn a_length_is_kept_and_a_close_is_an_end() {
        let (body, rest) = decoded(Framing::Length(4), &[b"ab", b"", b"cdef"]).unwrap();
        assert_eq!((&*body, rest.as_deref()), (&b"abcd"[..], Some(&b"ef"[..])));
        assert_eq!(decoded(Framing::Length(4), &[b"ab"]).unwrap().1, None);
        assert_eq!(
            decoded(Framing::UntilClose, &[b"ab", b"c"]).unwrap(),
            (b"abc".to_vec(), None)
        );
        assert!(Framing::UntilClose.may_end() && Framing::Length(0).may_end());
        assert!(!Framing::Length(1).may_end() && !Framing::chunked().may_end());
    }

    proptest! {
        #[test]
        fn a_message_in_any_parts_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            rest in prop::collection::vec(any::<u8>(), 0..8),
            cuts in prop::collection::vec(0..400_usize, 0..12),
        ) {
            let mut message = Vec::new();
            for chunk in &chunks {
                message.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                message.extend_from_slice(chunk);
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(b"0\r\n\r\n");
            message.extend_from_slice(&rest);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            cuts.extend([0, message.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|ends| &message[ends[0]..ends[1]]).collect();
            prop_assert_eq!(decoded(Framing::chunked(), &parts).unwrap(), (chunks.concat(), Some(rest)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((body, _)) = decoded(Framing::chunked(), &[&bytes]) {
                prop_assert!(body.len() <= bytes.len());
            }
        }
    }
}
