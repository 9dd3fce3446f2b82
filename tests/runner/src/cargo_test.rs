//! Runs the tests with cargo alone: Rust's test programs, one after another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, PipeReader, Write},
    mem,
};

use anyhow::Context;

use crate::{
    cargo::{Cargo, Compiled},
    say,
    test_summary::TestSummary,
};

/// TestKind tests to run.
#[derive(Clone, Copy)]
pub(crate) enum TestKind {
    /// Every test of the selection.
    All,
    /// Only the examples in the documentation.
    Documentation,
}

/// Runs the tests. Their output goes to `test.log` in the target directory. Prints a line for each program, and the output of
/// failed tests.
pub(crate) fn run(cargo: &Cargo, which: TestKind, compiled: &Compiled) -> anyhow::Result<TestSummary> {
    let path = Cargo::target_directory().join("test.log");
    let mut log = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    let words: &[&str] = match which {
        TestKind::All => &["test", "--no-fail-fast"],
        TestKind::Documentation => &["test", "--no-fail-fast", "--doc"],
    };
    let (output, input) = std::io::pipe()?;
    let mut command = cargo.command(words);
    command.stdout(input.try_clone()?).stderr(input);
    let mut child = cargo.spawn(&mut command).context("could not run cargo")?;
    drop(command); // it holds the pipe's other end
    let mut reading = Reading::new(&compiled.names);
    for line in lines(output) {
        let line = line?;
        writeln!(log, "{line}")?;
        for shown in reading.line(&line) {
            say(&shown);
        }
    }
    let status = child.wait()?;
    let mut summary = reading.end();
    if !status.success() && summary.failed.is_empty() && summary.problems.is_empty() {
        summary.problems.push(format!("cargo failed ({status})"));
    }
    if !status.success() {
        say(&format!("everything that was printed: {}", path.display()));
    }
    Ok(summary)
}

/// The output of the programs as text; invalid UTF-8 is replaced.
fn lines(output: PipeReader) -> impl Iterator<Item = std::io::Result<String>> {
    BufReader::new(output)
        .split(b'\n')
        .map(|line| line.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Parses the output of cargo and the test programs.
///
/// A program prints `running N tests`, then `test NAME ... ok` for each test, then `failures:` with the output of failed tests,
/// and finally `test result: …`. Other processes may print between and into these lines. Therefore the numbers are taken from the
/// result, and a result counts only where it covers N tests.
struct Reading<'a> {
    /// The names of the programs by the names of their files.
    programs: &'a BTreeMap<String, String>,
    /// The program whose output is being read.
    program: String,
    /// The number of tests that the program has announced.
    announced: Option<usize>,
    /// The names in the list of failures, which precedes the result.
    failed: BTreeSet<String>,
    shows_failures: bool,
    summary: TestSummary,
}

impl<'a> Reading<'a> {
    fn new(programs: &'a BTreeMap<String, String>) -> Self {
        Self {
            programs,
            program: String::new(),
            announced: None,
            failed: BTreeSet::new(),
            shows_failures: false,
            summary: TestSummary::default(),
        }
    }

    /// Parses a line and returns the lines to print.
    fn line(&mut self, line: &str) -> Vec<String> {
        if let Some(program) = self.started(line) {
            self.leave_program();
            self.program = program;
            return Vec::new();
        }
        if self.announced.is_none() && line.starts_with("running ") {
            self.announced = line.split(' ').nth(1).and_then(|number| number.parse().ok());
            return Vec::new();
        }
        if let Some(counts) = line.strip_prefix("test result: ").map(Counts::read)
            && self.announced == Some(counts.all())
        {
            let shown = self.result(&counts, line);
            // Most crates have no examples in their documentation.
            return if counts.all() == 0 {
                Vec::new()
            } else {
                vec![shown]
            };
        }
        if line == "failures:" {
            self.shows_failures = true;
            self.failed.clear();
            return vec![format!("{}:", self.program)];
        }
        if !self.shows_failures {
            return Vec::new();
        }
        if let Some(name) = line.strip_prefix("    ") {
            self.failed.insert(name.to_owned());
        }
        vec![line.to_owned()]
    }

    fn result(&mut self, counts: &Counts, line: &str) -> String {
        self.summary.passed += counts.passed;
        let failed = mem::take(&mut self.failed);
        if failed.len() < counts.failed {
            let reason = format!("{}: {} failed", self.program, counts.failed);
            self.summary.problems.push(reason);
        } else if counts.failed > 0 {
            let names = failed.into_iter().map(|name| format!("{} {name}", self.program));
            self.summary.failed.extend(names);
        }
        let program = mem::take(&mut self.program);
        self.leave_program();
        format!("{program}: {line}")
    }

    /// Records a program that printed no result, because it was killed or called `exit`.
    fn leave_program(&mut self) {
        if !self.program.is_empty() {
            let reason = format!("{} ended without a result", self.program);
            self.summary.problems.push(reason);
        }
        self.program.clear();
        self.announced = None;
        self.shows_failures = false;
    }

    fn end(mut self) -> TestSummary {
        self.leave_program();
        self.summary
    }

    /// The name of the program that cargo starts: `     Running tests/it/main.rs (target/debug/deps/it-0123456789abcdef)`, or
    /// `   Doc-tests statistics`.
    fn started(&self, line: &str) -> Option<String> {
        if let Some(package) = line.strip_prefix("   Doc-tests ") {
            return Some(format!("{package} (documentation)"));
        }
        let (_, path) = line.strip_prefix("     Running ")?.split_once(" (")?;
        let file = path.strip_suffix(')')?.rsplit('/').next()?;
        self.programs.get(file).cloned()
    }
}

/// `FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 5 filtered out; finished in 1.23s`
struct Counts {
    passed: usize,
    failed: usize,
    /// Ignored and measured tests, which neither passed nor failed.
    others: usize,
}

impl Counts {
    fn read(result: &str) -> Self {
        let number = |unit: &str| -> usize {
            result
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(unit)?.trim().parse().ok())
                .unwrap_or(0)
        };
        Self {
            passed: number("passed"),
            failed: number("failed"),
            others: number("ignored") + number("measured"),
        }
    }

    fn all(&self) -> usize {
        self.passed + self.failed + self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
     Running unittests src/lib.rs (target/debug/deps/outbox-0123456789abcdef)
running 3 tests
test sizes ... ok
a log line of a service
     Running a log line (of another one)
running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s

     Running tests/it/main.rs (target/debug/deps/it-fedcba9876543210)
running 2 tests
test sweeping ... FAILED
test a_log_line_of_a_service_came_between ... 2026-11-30 INFO ready
ok

failures:

---- sweeping stdout ----
assertion failed: left != right


failures:
    sweeping

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

   Doc-tests statistics
running 1 test
test statistics/src/lib.rs - (line 3) ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    fn read(printed: &str) -> (TestSummary, String) {
        let programs = [
            ("outbox-0123456789abcdef", "outbox"),
            ("it-fedcba9876543210", "outbox::it"),
        ];
        let programs = programs.map(|(file, name)| (file.to_owned(), name.to_owned()));
        let programs = BTreeMap::from(programs);
        let mut reading = Reading::new(&programs);
        let shown: Vec<_> = printed.lines().flat_map(|line| reading.line(line)).collect();
        (reading.end(), shown.join("\n"))
    }

    #[test]
    fn programs_are_counted_and_only_what_failed_is_shown() {
        let (summary, shown) = read(PRINTED);
        let expected = TestSummary {
            passed: 4,
            failed: vec!["outbox::it sweeping".to_owned()],
            ..TestSummary::default()
        };
        assert_eq!(summary, expected);
        assert!(shown.contains("assertion failed: left != right"), "{shown}");
        assert!(!shown.contains("a log line of a service"), "{shown}");
    }

    #[test]
    fn a_program_that_dies_is_no_success() {
        let until_it_dies = PRINTED.split("\nfailures:").next().unwrap();
        let (summary, _) = read(until_it_dies);
        assert!(!summary.passed());
        assert_eq!(summary.problems, ["outbox::it ended without a result"]);
    }
}
