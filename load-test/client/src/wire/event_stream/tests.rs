use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

type Owned = (Vec<u8>, Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct Read {
    events: Vec<Owned>,
    refused: bool,
}

/// The events that the scanner finds in these pieces.
fn scanned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Read {
    let mut events = Vec::new();
    let mut scanner = EventScanner::new(limit);
    let mut take = |event: StreamEvent<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec()));
        Ok(())
    };
    let pushed: Result<(), TooLong> = pieces
        .into_iter()
        .try_for_each(|piece| scanner.push(piece, &mut take));
    let done = pushed.and_then(|()| scanner.finish(&mut take));
    Read {
        events,
        refused: done.is_err(),
    }
}

/// The standard's algorithm on the whole stream, line by line, without optimisation.
fn reference(stream: &[u8], limit: usize) -> Read {
    let mut read = Read {
        events: Vec::new(),
        refused: false,
    };
    let (mut name, mut data) = (Vec::new(), None::<Vec<u8>>);
    let mut lines = lines_of(stream);
    lines.push(Vec::new());
    for (nth, line) in lines.iter().enumerate() {
        if line.len() > limit {
            read.refused = true;
            return read;
        }
        let line = match line.strip_prefix(b"\xEF\xBB\xBF") {
            Some(rest) if nth == 0 => rest,
            _ => line,
        };
        if line.is_empty() {
            let data = data.take().unwrap_or_default();
            if !data.is_empty() {
                read.events.push((name.clone(), data));
            }
            name.clear();
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let field = parts.next().unwrap();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) if data.len() + 1 + value.len() > limit => {
                    read.refused = true;
                    return read;
                }
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    read
}

/// The lines of a stream, including a last one without an end.
fn lines_of(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    let mut bytes = stream.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    bytes.next_if(|next| **next == b'\n');
                }
                lines.push(mem::take(&mut line));
            }
            _ => line.push(byte),
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// The sequences that the scanner treats specially.
const FRAGMENTS: [&[u8]; 17] = [
    b"data:",
    b"data: ",
    b"data",
    b"event: ",
    b"event:error",
    b"id: 1",
    b": comment",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\xEF\xBB\xBF",
    "äß€😀".as_bytes(),
    b"{\"content\":\"x\"}",
    b" ",
    b"[DONE]",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&FRAGMENTS[..]), 0..40).prop_map(|pieces| pieces.concat())
}

/// `stream` split at the cuts, some of which may coincide.
fn cut<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.sort_unstable();
    let ends = at.iter().copied().chain([stream.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    starts.zip(ends).map(|(start, end)| &stream[start..end]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_split_of_any_stream_gives_the_events_of_the_standard(
        stream in stream(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        limit in select(&[5_usize, 12, 20, 1_000][..]),
    ) {
        let expected = reference(&stream, limit);
        prop_assert_eq!(&scanned([&stream[..]], limit), &expected, "in one piece");
        prop_assert_eq!(&scanned(cut(&stream, &cuts), limit), &expected, "in pieces");
        prop_assert_eq!(&scanned(stream.chunks(1), limit), &expected, "byte by byte");
    }
}

#[test]
fn an_event_within_one_piece_is_not_copied() {
    let piece = b"data: 1\n\ndata: 2\r\n\r\n";
    let mut scanner = EventScanner::new(100);
    let mut seen = 0;
    scanner
        .push::<TooLong>(piece, |event| {
            assert!(piece.as_ptr_range().contains(&event.data.as_ptr()));
            seen += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 2);
    assert_eq!(scanner.line.capacity() + scanner.event.data.capacity(), 0);
}

#[test]
fn a_line_may_be_as_long_as_the_limit() {
    let line = |length: usize| [&b"data: "[..], &vec![b'x'; length - 6], b"\n\n"].concat();
    assert_eq!(scanned([&line(64)[..]], 64).events.len(), 1);
    for pieces in [1, 7, 70] {
        assert!(scanned(line(65).chunks(pieces), 64).refused);
    }
}

#[test]
fn memory_is_bounded_by_the_limit() {
    let mut scanner = EventScanner::new(1_000);
    let piece = [b'x'; 100];
    let refused = (0..20).find(|_| scanner.push::<TooLong>(&piece, |_| Ok(())).is_err());
    assert_eq!(refused, Some(10));
    assert!(scanner.line.capacity() <= 2_000);
}
