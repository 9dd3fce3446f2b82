use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::{self, Read},
};

use shared_types::Invalid;

const FILE: &str = ".env";
const EXPECTED: &str = "lines of NAME=value";

/// The variables of the `.env` file in the working directory; empty where there is no file.
///
/// # Errors
/// The file cannot be read, or a line is not of the form `NAME=value`. The error does not show the line, which may hold a
/// secret.
pub(super) fn dot_env() -> Result<BTreeMap<String, String>, Invalid> {
    match fs::read_to_string(FILE) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(Invalid::new(FILE, error, EXPECTED)),
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let taken = Cell::new(0);
    let mut pairs = dotenvy::from_read_iter(LineByLine {
        rest: text.as_bytes(),
        taken: &taken,
    });
    let mut map = BTreeMap::new();
    loop {
        let before = taken.get();
        match pairs.next() {
            Some(Ok((name, value))) => map.insert(name, value),
            Some(Err(_)) => {
                let line = first_significant_line(text, before);
                return Err(Invalid::new(
                    FILE,
                    format_args!("line {line}, which cannot be read"),
                    EXPECTED,
                ));
            }
            None => return Ok(map),
        };
    }
}

/// The number (from 1) of the first line after the first `skipped` lines that is neither empty nor a comment.
fn first_significant_line(text: &str, skipped: usize) -> usize {
    text.lines()
        .enumerate()
        .skip(skipped)
        .find(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map_or(skipped, |(index, _)| index)
        + 1
}

/// Reads at most one line at a time, so that `taken` counts the lines that the parser has read. The parser's errors quote the
/// line instead of numbering it.
struct LineByLine<'a> {
    rest: &'a [u8],
    taken: &'a Cell<usize>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line_end = self.rest.iter().position(|byte| *byte == b'\n');
        let length = line_end.map_or(self.rest.len(), |end| end + 1).min(buffer.len());
        let (given, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(given);
        self.rest = rest;
        if given.ends_with(b"\n") {
            self.taken.set(self.taken.get() + 1);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_values_counts_and_comments_are_passed_over() {
        let map = parse("# a comment\nA=1\n\nexport B='two\nlines'\nA=3 # so\n").unwrap();
        let expected = [("A", "3"), ("B", "two\nlines")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(map, BTreeMap::from(expected));
    }

    #[test]
    fn an_unreadable_line_is_numbered_and_not_shown() {
        for (text, line) in [
            ("A=1\n# API_KEY=canary\n\nAPI_KEY canary\nB=2\n", 4),
            ("API_KEY=canary canary canary", 1),
            ("A='two\nlines'\nAPI_KEY='canary\nB=2\n", 3),
            ("A=1\r\nAPI_KEY=\"canary\\q\"\r\n", 2),
        ] {
            assert_eq!(
                parse(text).unwrap_err().to_string(),
                format!(".env: found line {line}, which cannot be read, expected lines of NAME=value")
            );
        }
    }
}
