//! `run-tests` on a small project: every test runs, what failed is shown and named, the last line says so.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

const MANIFEST: &str = r#"
[package]
name = "small"
version = "0.1.0"
edition = "2024"
"#;
/// Two programs with a failure each, so that the second one is only seen if the first does not end the run.
const LIBRARY: &str = r#"
/// ```
/// assert_eq!(small::two(), 2);
/// ```
pub fn two() -> u32 {
    2
}
#[test]
fn adds() {
    println!("printed by what passed");
    assert_eq!(two(), 1 + 1);
}
#[test]
fn fails_first() {
    println!("printed by what failed");
    assert_eq!(two(), 3);
}
"#;
const PROGRAM: &str = r#"
#[test]
fn fails_second() {
    panic!("for a reason");
}
#[test]
#[ignore]
fn is_left_out() {}
"#;
const NEXTEST: &str = r#"
[profile.default]
failure-output = "final"
[profile.default.junit]
path = "junit.xml"
"#;

struct Run {
    succeeded: bool,
    printed: String,
    last_line: String,
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs the tests of a project with these files, without servers.
fn run(runner: &str, files: &[(&str, &str)], selection: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "Cargo.toml", MANIFEST);
    write(folder.path(), ".config/nextest.toml", NEXTEST);
    for (file, text) in files {
        write(folder.path(), file, text);
    }
    let cargo = env!("CARGO");
    let locked = Command::new(cargo)
        .args(["generate-lockfile", "--offline", "--quiet"])
        .current_dir(folder.path())
        .status();
    assert!(locked.unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_run-tests"));
    // This test may itself run under nextest, whose variables are not meant for another one.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEXTEST")) {
        command.env_remove(name);
    }
    let output = command
        .args(selection)
        .current_dir(folder.path())
        .env("CARGO", cargo)
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .env("TEST_RUNNER", runner)
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("AMQP_URL", "amqp://127.0.0.1:1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Run {
        succeeded: output.status.success(),
        last_line: printed.lines().last().unwrap().to_owned(),
        printed,
    }
}

/// `TEST_RUNNER=cargo` without cargo-nextest, anything else with it, where it is installed.
fn runners() -> Vec<&'static str> {
    let nextest = Command::new(env!("CARGO"))
        .args(["nextest", "--version"])
        .output();
    let is_installed = nextest.is_ok_and(|answer| answer.status.success());
    if is_installed {
        vec!["cargo", "nextest"]
    } else {
        vec!["cargo"]
    }
}

#[test]
fn all_tests_run_and_the_last_line_names_what_failed() {
    let files = [("src/lib.rs", LIBRARY), ("tests/program.rs", PROGRAM)];
    for runner in runners() {
        let run = run(runner, &files, &[]);
        assert!(!run.succeeded, "{}", run.printed);
        let (counts, took) = run.last_line.rsplit_once(", in ").unwrap();
        assert!(
            counts.starts_with("tests: 2 passed, 2 failed ("),
            "{}",
            run.printed
        );
        for name in ["fails_first", "fails_second"] {
            assert!(counts.contains(name), "{runner}: {counts}");
        }
        assert!(
            counts.contains("small::program fails_second"),
            "{runner}: {counts}"
        );
        assert!(took.ends_with(" s"), "{runner}: {took}");
        assert!(run.printed.contains("printed by what failed"), "{}", run.printed);
        assert!(!run.printed.contains("printed by what passed"), "{}", run.printed);
    }
}

#[test]
fn a_success_says_how_many_passed_and_a_selection_selects() {
    let files = [
        ("src/lib.rs", LIBRARY),
        ("tests/program.rs", "#[test] fn passes() {}"),
    ];
    for runner in runners() {
        let run = run(runner, &files, &["--test", "program"]);
        assert!(run.succeeded, "{}", run.printed);
        let expected = "tests: 1 passed, 0 failed, in ";
        assert!(run.last_line.starts_with(expected), "{}", run.printed);
    }
}

#[test]
fn what_does_not_compile_is_no_success() {
    for runner in runners() {
        let run = run(runner, &[("src/lib.rs", "fn wrong() -> u32 {}")], &[]);
        assert!(!run.succeeded);
        assert!(
            run.last_line.contains("the tests do not compile"),
            "{}",
            run.printed
        );
    }
}
