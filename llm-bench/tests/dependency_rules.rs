//! The architecture's dependency rules, held against what cargo would really build.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Normal dependencies of each of our crates: ours and others'.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .unwrap();
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal);
            (
                package.name.to_string(),
                normal.map(|dependency| dependency.name.clone()).collect(),
            )
        })
        .collect()
}

/// The workspace with all that it depends on.
fn resolved() -> Metadata {
    MetadataCommand::new()
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .unwrap()
}

/// Everything that `package` builds with, directly or not, tests aside.
fn closure(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.to_string()))
        .collect();
    let start = metadata
        .packages
        .iter()
        .find(|p| p.name.as_str() == package)
        .unwrap();
    let (mut seen, mut open) = (BTreeSet::new(), vec![&start.id]);
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal);
            if normal && seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| names[id].clone()).collect()
}

fn assert_without(package: &str, dependencies: &BTreeSet<String>, banned: &[&str]) {
    let found: Vec<_> = banned
        .iter()
        .filter(|banned| dependencies.contains(**banned))
        .collect();
    assert!(found.is_empty(), "{package} must not depend on {found:?}");
}

#[test]
fn pure_crates_do_no_io() {
    let metadata = resolved();
    for package in ["shared-types", "statistics"] {
        let banned = ["tokio", "sqlx", "lapin", "reqwest", "hyper", "actix-web", "rand"];
        assert_without(package, &closure(&metadata, package), &banned);
    }
}

#[test]
fn ports_know_no_backend() {
    let metadata = resolved();
    for package in ["storage", "broker", "outbox"] {
        let banned = [
            "sqlx",
            "lapin",
            "storage-sql",
            "storage-conformance",
            "storage-postgres",
            "storage-sqlite",
            "broker-rabbitmq",
            "broker-in-process",
        ];
        assert_without(package, &closure(&metadata, package), &banned);
    }
}

#[test]
fn services_know_neither_each_other_nor_a_driver() {
    let (all, metadata) = (dependencies(), resolved());
    let banned = [
        "sqlx",
        "lapin",
        "storage-postgres",
        "storage-sqlite",
        "broker-rabbitmq",
        "broker-in-process",
    ];
    for (package, other) in [
        ("simulation-service", "benchmark-service"),
        ("benchmark-service", "simulation-service"),
    ] {
        assert_without(package, &all[package], &banned);
        assert_without(package, &closure(&metadata, package), &[other]);
    }
    assert_without("llm-bench", &all["llm-bench"], &banned);
}

/// What measures a client must not have the client's mistakes.
#[test]
fn the_mock_server_shares_no_code_with_its_clients() {
    let banned = ["llm-client", "load-test", "hyper", "reqwest"];
    assert_without("mock-llm", &closure(&resolved(), "mock-llm"), &banned);
}

/// The client measures and nothing else; what becomes of what it measured is `load-test`'s.
#[test]
fn the_client_of_llm_apis_only_measures() {
    let banned = [
        "sqlx",
        "lapin",
        "tokenizers",
        "tiktoken-rs",
        "statistics",
        "hdrhistogram",
        "storage",
        "broker",
        "outbox",
        "mock-llm",
        "load-test",
        "service-runtime",
    ];
    assert_without("llm-client", &closure(&resolved(), "llm-client"), &banned);
}

/// It publishes by the ports, and the command line chooses what is behind them.
#[test]
fn the_load_test_knows_no_backend_and_no_service() {
    let banned = [
        "sqlx",
        "lapin",
        "backends",
        "storage-postgres",
        "storage-sqlite",
        "broker-rabbitmq",
        "broker-in-process",
        "benchmark-service",
        "simulation-service",
    ];
    assert_without("load-test", &closure(&resolved(), "load-test"), &banned);
}

#[test]
fn only_one_crate_speaks_to_each_server() {
    let all = dependencies();
    let users = |driver: &str| -> Vec<&str> {
        // What measures and tests the others looks past them.
        let beside = ["pipeline-bench", "test-servers", "fault-suite"];
        let ours = all.iter().filter(|(name, _)| !beside.contains(&name.as_str()));
        ours.filter(|(_, normal)| normal.contains(driver))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    assert_eq!(
        users("sqlx"),
        ["storage-postgres", "storage-sql", "storage-sqlite"]
    );
    assert_eq!(
        users("storage-sql"),
        ["storage-conformance", "storage-postgres", "storage-sqlite"]
    );
    assert_eq!(users("lapin"), ["broker-rabbitmq"]);
    assert_eq!(users("storage-postgres"), ["backends"]);
    assert_eq!(users("broker-rabbitmq"), ["backends"]);
}

/// The points at which a process aborts are for the fault suite alone, and what tests need is for tests.
#[test]
fn nothing_that_is_deployed_has_failpoints_or_what_is_for_tests() {
    let builds_with = |package: &str, other: &str| {
        let tree = std::process::Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
            ])
            .args(["--package", package])
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        tree.lines().any(|line| line.starts_with(&format!("{other} v")))
    };
    for other in ["fail", "test-patience", "test-servers"] {
        for deployed in ["simulation-service", "benchmark-service", "llm-bench"] {
            assert!(!builds_with(deployed, other), "{deployed} builds with {other}");
        }
        assert!(builds_with("fault-suite", other), "or this test sees nothing");
    }
}

#[test]
fn every_main_only_wires() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for main in [
        "simulation-service/src/main.rs",
        "benchmark-service/src/main.rs",
        "llm-bench/src/main.rs",
    ] {
        let lines = std::fs::read_to_string(format!("{root}/{main}"))
            .unwrap()
            .lines()
            .count();
        assert!(lines < 60, "{main} has {lines} lines, expected fewer than 60");
    }
}
