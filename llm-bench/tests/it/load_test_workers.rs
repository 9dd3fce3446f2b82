//! A load test on several machines, here as several processes.

use mock_llm::MockLlm;
use test_patience::patience;
use test_servers::shared_rabbitmq;

use crate::{
    load_test::quick,
    process::{Process, program, run},
};

const KEY: &str = "a-key-that-stays-with-its-worker";

#[tokio::test]
async fn two_workers_make_one_report() {
    let server = MockLlm::start(quick()).unwrap();
    let amqp = shared_rabbitmq().await.create_vhost().await.unwrap();
    let workers = ["one", "other"].map(|name| {
        let mut worker = program("llm-bench");
        worker
            .env("AMQP_URL", &amqp)
            .env("OPENAI_API_BASE", server.base_url())
            .env("OPENAI_API_KEY", KEY)
            .args([
                "load-test",
                "--worker",
                "--worker-name",
                name,
                "--client-cores",
                "1",
            ]);
        Process::start(worker)
    });
    let results = tempfile::tempdir().unwrap();
    let mut coordinator = program("llm-bench");
    // It speaks to no API: it has neither address nor key.
    coordinator
        .env("AMQP_URL", &amqp)
        .args([
            "load-test",
            "--workers",
            "2",
            "--model",
            "gpt-4o",
            "--json",
            "--allow-invalid",
            "--no-calibration",
            "--worker-timeout",
            &patience().as_secs().to_string(),
        ])
        .args([
            "--num-concurrent-requests",
            "4",
            "--max-num-completed-requests",
            "20",
            "--mean-input-tokens",
            "50",
        ])
        .arg("--results-dir")
        .arg(results.path());
    let output = tokio::task::spawn_blocking(|| run(coordinator)).await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["requests"]["scheduled"], &report["requests"]["ok"]),
        (&20.into(), &20.into())
    );
    let by_worker: Vec<_> = report["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| worker["requests"]["ok"].as_u64().unwrap())
        .collect();
    assert_eq!(by_worker, [10, 10]);
    assert_eq!(server.stats().requests, 20);
    for worker in workers {
        worker.stop();
    }
    let mut files: Vec<_> = std::fs::read_dir(results.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["gpt-4o_50_150_summary.json", "report.json"]);
}

#[test]
fn workers_need_a_broker_that_all_of_them_reach() {
    for role in [&["--worker"][..], &["--workers", "2", "--model", "gpt-4o"]] {
        let mut command = program("llm-bench");
        command.arg("load-test").args(role);
        let output = run(command);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("AMQP_URL: found none, expected that of a RabbitMQ"),
            "{said}"
        );
    }
}
