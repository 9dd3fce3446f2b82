//! Runs the tests with cargo-nextest, each in a process of its own. Their limits are in `.config/nextest.toml`.

use std::{fs, num::NonZero, path::Path, thread};

use anyhow::Context;

use crate::{cargo::Cargo, test_summary::TestSummary};

/// nextest writes below the workspace's root, also where `CARGO_TARGET_DIR` is set.
const REPORT: &str = "target/nextest/default/junit.xml";

/// Given explicitly, because `NEXTEST_PROFILE` may name another profile and the report is of this one.
const PROFILE: &str = "default";

/// Runs the tests. nextest prints the progress and, at the end, the output of the failed tests.
pub(crate) fn run(cargo: &Cargo) -> anyhow::Result<TestSummary> {
    let report = Path::new(REPORT);
    // The report of the last run must not be read as that of this one.
    let _ = fs::remove_file(report);
    // More threads than cores, because most tests mostly wait.
    let threads = 2 * thread::available_parallelism().map_or(1, NonZero::get);
    let mut command = cargo.command(&["nextest", "run", "--profile", PROFILE, "--no-tests", "pass"]);
    command.args(["--test-threads", &threads.to_string()]);
    let status = cargo
        .spawn(&mut command)
        .and_then(|mut child| child.wait())
        .context("could not run cargo nextest")?;
    let text = fs::read_to_string(report)
        .with_context(|| format!("cargo nextest ({status}) left no report {}", report.display()))?;
    let mut summary = read(&text).with_context(|| format!("could not read {}", report.display()))?;
    if !status.success() && summary.failed.is_empty() {
        summary.problems.push(format!("cargo nextest failed ({status})"));
    }
    Ok(summary)
}

/// Reads a report in JUnit's format: a `testsuite` for each program, in it a `testcase` for each test, in that a `failure` or an
/// `error` where the test failed.
fn read(junit: &str) -> anyhow::Result<TestSummary> {
    let document = roxmltree::Document::parse(junit)?;
    let mut summary = TestSummary::default();
    for test in document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"))
    {
        let has = |tag: &str| test.children().any(|child| child.has_tag_name(tag));
        if has("failure") || has("error") {
            let name = |attribute| test.attribute(attribute).unwrap_or("?");
            summary
                .failed
                .push(format!("{} {}", name("classname"), name("name")));
        } else {
            summary.passed += 1;
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_counted() {
        let junit = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="nextest-run" tests="3" failures="1" errors="0">
              <testsuite name="outbox::it" tests="2" disabled="0" errors="0" failures="1">
                <testcase name="sweeping" classname="outbox::it" time="0.1"/>
                <testcase name="memory::bounded" classname="outbox::it" time="0.1">
                  <failure message="assertion failed" type="test failure">left != right</failure>
                </testcase>
              </testsuite>
              <testsuite name="statistics" tests="1" disabled="0" errors="0" failures="0">
                <testcase name="merge" classname="statistics" time="0.1"/>
              </testsuite>
            </testsuites>"#;
        let expected = TestSummary {
            passed: 2,
            failed: vec!["outbox::it memory::bounded".to_owned()],
            ..TestSummary::default()
        };
        assert_eq!(read(junit).unwrap(), expected);
        assert!(read("no report").is_err());
    }
}
