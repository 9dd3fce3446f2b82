//! Names that MLflow accepts, each given only once.

use std::collections::HashSet;

/// The longest name of a parameter, a metric or a tag, characters.
const LONGEST: usize = 250;

/// Makes allowed names and returns each only once.
#[derive(Default)]
pub(super) struct UniqueNames {
    given: HashSet<String>,
}

impl UniqueNames {
    /// `name` with `_` for characters that MLflow refuses, truncated to its limit. Where that makes two names equal, the second gets a
    /// number, because MLflow refuses to set a parameter twice.
    ///
    /// MLflow allows slashes, but not every path, so they are replaced too.
    pub(super) fn allowed(&mut self, name: &str) -> String {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | ':');
        let letters: Vec<char> = name
            .chars()
            .map(|c| if is_allowed(c) { c } else { '_' })
            .collect();
        // A name that begins with dots could be a path out of a directory.
        let is_path = letters.is_empty() || letters.starts_with(&['.']);
        let prefix = if is_path { "_" } else { "" };
        let whole = |suffix: &str| {
            let room = LONGEST - prefix.len() - suffix.len();
            let kept: String = letters.iter().take(room).collect();
            format!("{prefix}{kept}{suffix}")
        };
        let mut allowed = whole("");
        let mut number = 2;
        while !self.given.insert(allowed.clone()) {
            allowed = whole(&format!("_{number}"));
            number += 1;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_stays() {
        let name = "workload.load.ramp-up_s: 5";
        assert_eq!(UniqueNames::default().allowed(name), name);
    }

    #[test]
    fn what_is_refused_is_replaced() {
        let mut names = UniqueNames::default();
        for (given, expected) in [
            ("a/b%c\u{e9}", "a_b_c_"),
            ("", "_"),
            ("..", "_.."),
            (".hidden", "_.hidden"),
        ] {
            assert_eq!(names.allowed(given), expected);
        }
    }

    #[test]
    fn names_stay_apart() {
        let mut names = UniqueNames::default();
        let long = "k".repeat(300);
        let given = ["a/b", "a%b", "a_b", &long, &long].map(|name| names.allowed(name));
        assert_eq!(given[..3], ["a_b", "a_b_2", "a_b_3"]);
        assert_eq!(given[3], "k".repeat(250));
        assert_eq!(given[4], format!("{}_2", "k".repeat(248)));
    }
}
