//! `run-tests` on a small project: every test runs, what failed is shown and named, the last line says so.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use test_patience::until_blocking;

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

/// A project with these files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "Cargo.toml", MANIFEST);
    write(folder.path(), ".config/nextest.toml", NEXTEST);
    for (file, text) in files {
        write(folder.path(), file, text);
    }
    fs::create_dir(folder.path().join("tmp")).unwrap();
    let locked = Command::new(env!("CARGO"))
        .args(["generate-lockfile", "--offline", "--quiet"])
        .current_dir(folder.path())
        .status();
    assert!(locked.unwrap().success());
    folder
}

/// `run-tests` in the project, without servers.
fn run_tests(runner: &str, project: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_run-tests"));
    // This test may itself run under nextest, whose variables are not meant for another one.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEXTEST")) {
        command.env_remove(name);
    }
    command
        .current_dir(project.path())
        .env("CARGO", env!("CARGO"))
        .env("CARGO_TARGET_DIR", project.path().join("target"))
        .env("TMPDIR", project.path().join("tmp"))
        .env("TEST_RUNNER", runner)
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("AMQP_URL", "amqp://127.0.0.1:1")
        .env("RABBITMQ_MANAGEMENT_URL", "http://127.0.0.1:1")
        .stdin(Stdio::null());
    command
}

/// What became of it.
fn outcome(output: Output) -> Run {
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Run {
        succeeded: output.status.success(),
        last_line: printed.lines().last().unwrap().to_owned(),
        printed,
    }
}

fn run(runner: &str, files: &[(&str, &str)], selection: &[&str]) -> Run {
    let project = project(files);
    outcome(run_tests(runner, &project).args(selection).output().unwrap())
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
fn a_package_without_a_library_has_no_examples_to_run() {
    let files = [("src/main.rs", "fn main() {}\n#[test] fn passes() {}")];
    for runner in runners() {
        let run = run(runner, &files, &[]);
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

/// Says its process id, and never ends.
const ENDLESS: &str = r#"
#[test]
fn never_ends() {
    std::fs::write("started.new", std::process::id().to_string()).unwrap();
    std::fs::rename("started.new", "started").unwrap();
    loop {
        std::thread::park();
    }
}
"#;

#[test]
fn a_run_that_is_ended_ends_its_tests_and_leaves_no_file() {
    for runner in runners() {
        let project = project(&[("src/lib.rs", ""), ("tests/program.rs", ENDLESS)]);
        let started = project.path().join("started");
        let child = run_tests(runner, &project)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until_blocking("the test to run", || started.exists());
        let test = fs::read_to_string(&started).unwrap().parse().unwrap();
        let test_runs = || kill(Pid::from_raw(test), None).is_ok();
        assert!(test_runs());
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let run = outcome(child.wait_with_output().unwrap());
        assert!(!run.succeeded);
        assert_eq!(
            run.last_line, "run-tests: interrupted",
            "{runner}: {}",
            run.printed
        );
        until_blocking("the end of the test", || !test_runs());
        let left: Vec<_> = fs::read_dir(project.path().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
