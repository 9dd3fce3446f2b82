use std::process::{Command, Output};

use crate::process::{program, run};

fn llm_bench(arguments: &[&str], data_dir: &std::path::Path, settings: &[(&str, &str)]) -> Output {
    let mut command: Command = program("llm-bench");
    command
        .args(arguments)
        .env("DATA_DIR", data_dir)
        .envs(settings.iter().copied());
    run(command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn simulate_then_rankings_needs_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let simulated = llm_bench(
        &["simulate", "--ticks", "3"],
        directory.path(),
        &[("NUM_DATA_POINTS", "10")],
    );
    assert!(simulated.status.success(), "{}", text(&simulated.stderr));
    assert!(
        text(&simulated.stdout).contains("48 batches, 480 values"),
        "{}",
        text(&simulated.stdout)
    );

    let table = llm_bench(&["rankings", "ttft"], directory.path(), &[]);
    assert!(table.status.success(), "{}", text(&table.stderr));
    let table = text(&table.stdout);
    for word in [
        "rank",
        "GPT-4o",
        "Llama 3.1 405",
        "Claude 3.5 Sonnet",
        "Gemini 1.5Flash",
        "p99",
        "30",
    ] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    let csv = text(&llm_bench(&["rankings", "--format", "csv"], directory.path(), &[]).stdout);
    assert_eq!(csv.lines().count(), 1 + 16, "{csv}");

    let rebuilt = text(&llm_bench(&["rebuild"], directory.path(), &[]).stdout);
    assert!(
        rebuilt.contains("folded 48 batches") && rebuilt.contains("all were right"),
        "{rebuilt}"
    );
}

/// A new database would be empty, and the command would find nothing wrong.
#[test]
fn commands_that_repair_do_not_create_a_database() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["reconcile"][..],
        &["rebuild"],
        &["rankings"],
        &["dead-letters", "log"],
    ] {
        let refused = llm_bench(arguments, directory.path(), &[]);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let said = text(&refused.stderr);
        for word in ["DATABASE_URL", "llm-bench.sqlite", "llm-bench up"] {
            assert!(said.contains(word), "{word} in {said}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    llm_bench(&["migrate"], directory.path(), &[]);
    for arguments in [&["reconcile"][..], &["rebuild"]] {
        let found = llm_bench(arguments, directory.path(), &[]);
        assert!(found.status.success(), "{}", text(&found.stderr));
        let said = text(&found.stdout);
        assert!(said.contains("llm-bench.sqlite"), "{said}");
    }
}

#[test]
fn an_unknown_metric_is_answered_with_the_known_ones() {
    let directory = tempfile::tempdir().unwrap();
    llm_bench(&["simulate"], directory.path(), &[("NUM_DATA_POINTS", "1")]);
    let refused = llm_bench(&["rankings", "speed"], directory.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("ttft"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_refused_setting_is_one_line_and_status_2() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("SIMULATION_INTERVAL", "soon"),
        ("DATABASE_URL", "mysql://u:canary@h/d"),
        ("AMQP_URL", "http://u:canary@h"),
        ("SIMULATION_INTERVALL", "5"),
    ] {
        let refused = llm_bench(&["up", "--port", "0"], directory.path(), &[(name, value)]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.starts_with(&format!("llm-bench: {name}: found ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn wrong_usage_is_status_2_and_help_names_every_command() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        llm_bench(&["dance"], directory.path(), &[]).status.code(),
        Some(2)
    );
    assert_eq!(
        llm_bench(&["simulate", "--ticks", "0"], directory.path(), &[])
            .status
            .code(),
        Some(2)
    );
    let help = text(&llm_bench(&["--help"], directory.path(), &[]).stdout);
    for command in [
        "up",
        "simulate",
        "rankings",
        "migrate",
        "keys",
        "dead-letters",
        "reconcile",
        "rebuild",
        "doctor",
        "probe",
    ] {
        assert!(help.contains(command), "{command} in\n{help}");
    }
}

#[test]
fn migrate_is_idempotent_and_doctor_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let before = llm_bench(&["doctor"], directory.path(), &[]);
    assert_eq!(before.status.code(), Some(1));
    assert!(
        text(&before.stdout).contains("llm-bench migrate"),
        "{}",
        text(&before.stdout)
    );

    assert!(text(&llm_bench(&["migrate"], directory.path(), &[]).stdout).contains("applied"));
    assert!(text(&llm_bench(&["migrate"], directory.path(), &[]).stdout).contains("nothing to do"));
    assert!(
        llm_bench(&["migrate", "--wait"], directory.path(), &[])
            .status
            .success()
    );
    let after = llm_bench(&["doctor"], directory.path(), &[]);
    assert!(after.status.success(), "{}", text(&after.stdout));
}

#[test]
fn keys_are_shown_once_listed_without_secret_and_revoked_by_id() {
    let directory = tempfile::tempdir().unwrap();
    let created = llm_bench(
        &["keys", "create", "ci", "--scope", "write"],
        directory.path(),
        &[],
    );
    let key = text(&created.stdout).trim().to_owned();
    let [_, id, secret] = key.split('_').collect::<Vec<_>>()[..] else {
        panic!("{key}")
    };

    let listed = text(&llm_bench(&["keys", "list"], directory.path(), &[]).stdout);
    assert!(
        listed.contains(id) && listed.contains("ci") && listed.contains("in use"),
        "{listed}"
    );
    assert!(!listed.contains(secret), "{listed}");
    assert!(
        llm_bench(&["keys", "revoke", id], directory.path(), &[])
            .status
            .success()
    );
    assert!(text(&llm_bench(&["keys", "list"], directory.path(), &[]).stdout).contains("revoked"));
    assert_eq!(
        llm_bench(&["keys", "revoke", "0123"], directory.path(), &[])
            .status
            .code(),
        Some(1)
    );

    let files = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "the secret is in {}", file.display());
    }
}

#[test]
fn thin_services_want_a_broker_between_them() {
    for service in ["simulation-service", "benchmark-service"] {
        let refused = run(program(service));
        let said = text(&refused.stderr);
        assert!(
            said.contains("AMQP_URL: found nothing") && said.lines().count() == 1,
            "{said}"
        );
        assert_ne!(refused.status.code(), Some(0));
    }
}
