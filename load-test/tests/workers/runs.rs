use std::time::Duration;

use load_test::{
    plan::{Arrival, Load, Plan},
    report::{
        Report,
        model::{WorkerOutcome, WorkerSection},
    },
    workers::{CoordinatorEvent, Merged},
};
use test_patience::patience;

use crate::bench::{
    TestRunner, TestWorker, amqp_url, asked, asked_more, coordinated, endless, n, plan, server,
};

/// Runs with two workers; gives what they merged to and the positions of all requests that were sent.
async fn by_two(plan: Plan) -> (Merged, Vec<u64>) {
    let (server, url) = (server(), amqp_url().await);
    let runner = TestRunner::new(server.base_url());
    let workers = ["a", "b"].map(|name| TestWorker::start(&url, name, runner.clone()));
    let merged = coordinated(&url, &asked(plan, 2), |_| ()).await.unwrap();
    for worker in workers {
        assert!(worker.stop().await.is_empty());
    }
    let mut indices: Vec<u64> = runner
        .records
        .lock()
        .unwrap()
        .iter()
        .map(|record| record.index)
        .collect();
    indices.sort_unstable();
    assert_eq!(server.stats().requests, indices.len() as u64);
    (merged, indices)
}

fn check_sums(report: &Report) {
    let totals = report.requests;
    assert_eq!((totals.scheduled, totals.ok, report.warmup_requests), (36, 36, 4));
    assert_eq!((report.client.workers, report.client.cores), (2, 2));
    let [one, other] = &report.workers[..] else {
        panic!("{:?}", report.workers);
    };
    assert_eq!((one.share.number(), other.share.number()), (0, 1));
    for worker in [one, other] {
        assert_eq!(worker.outcome, WorkerOutcome::Done);
        let requests = worker.requests.unwrap();
        assert_eq!(
            (requests.scheduled, requests.ok, worker.warmup_requests),
            (18, 18, 2)
        );
        assert!(worker.began_within_s.unwrap() < patience().as_secs_f64());
    }
    // A closed loop's are not on a busy machine: then streams were not held.
    let is_valid = |worker: &WorkerSection| worker.client_error.as_ref().unwrap().reasons.is_empty();
    assert_eq!(
        report.is_valid(),
        report.workers.iter().all(is_valid),
        "{:?}",
        report.client_error
    );
    assert_ne!(one.name, other.name);
    let json = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_are_one_closed_loop() {
    let (merged, indices) = by_two(plan()).await;
    assert_eq!(indices, (0..40).collect::<Vec<_>>());
    let report = merged.report("0");
    check_sums(&report);
    assert_eq!(report.output_tokens.n, report.ttft_s.n);

    let summary = merged.llmperf().summary(merged.plan(), 7);
    assert_eq!(summary.name, "org-mock_10_10_summary.json");
    let summary: serde_json::Value = serde_json::from_str(&summary.content).unwrap();
    assert_eq!(summary["results_num_completed_requests"], 36);
    assert_eq!(summary["results_num_requests_started"], 36);
    assert_eq!(summary["num_concurrent_requests"], 4);
    assert!(summary["results_ttft_s_quantiles_p99"].as_f64().unwrap() >= 0.05);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_are_one_open_loop() {
    let load = Load::Open {
        rate: 40.0,
        arrival: Arrival::Poisson,
        ramp_up: Duration::ZERO,
        max_in_flight: n(1000),
    };
    let (merged, indices) = by_two(Plan { load, ..plan() }).await;
    assert_eq!(indices, (0..40).collect::<Vec<_>>());
    let report = merged.report("0");
    check_sums(&report);
    // It has no streams to hold, and its limits are wide: no machine is too busy for it.
    assert!(report.is_valid(), "{:?}", report.client_error);
}

/// A worker that is stopped sends what it has, and the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_counts_with_what_it_did() {
    let (server, url) = (server(), amqp_url().await);
    let runner = TestRunner::new(server.base_url());
    let staying = TestWorker::start(&url, "stays", runner.clone());
    let leaving = TestWorker::start(&url, "leaves", runner.clone());
    let (started, mut is_started) = tokio::sync::mpsc::channel(1);
    let stopping = async {
        is_started.recv().await.unwrap();
        asked_more(&server, 8).await;
        assert!(leaving.stop().await.is_empty());
        asked_more(&server, 8).await;
        assert!(staying.stop().await.is_empty());
    };
    let hear = move |event: CoordinatorEvent<'_>| {
        if event == CoordinatorEvent::Started {
            started.try_send(()).unwrap();
        }
    };
    let asked = asked(endless(), 2);
    let (merged, ()) = tokio::join!(coordinated(&url, &asked, hear), stopping);
    let report = merged.unwrap().report("0");
    assert!(report.interrupted);
    assert!(
        report
            .workers
            .iter()
            .all(|worker| worker.outcome == WorkerOutcome::Done)
    );
    let sent = runner.records.lock().unwrap().len() as u64;
    assert_eq!(report.requests.scheduled + report.warmup_requests, sent);
    assert!(report.requests.balance());
}
