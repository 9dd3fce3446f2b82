//! Text for the terminal. Servers determine some of it, so control characters are replaced.

use crate::say::say;

/// Progress and notes for people, on standard error: standard output has only results.
pub(super) fn note(text: &str) {
    eprintln!("{}", printable(text));
}

/// A result, on standard output.
pub(super) fn print_result(text: &str) {
    say!("{}", printable(text.trim_end()));
}

fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && c != '\n' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}
