use std::process::Stdio;

use broker::Shares;
use load_test::{
    report::model::WorkerOutcome,
    workers::{CoordinatorEvent, serve},
};
use test_patience::until;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::bench::{
    TestRunner, TestWorker, amqp_url, asked, asked_more, coordinated, endless, plan, server, shares,
    worker_name,
};

const AMQP_URL: &str = "WORKER_PROCESS_AMQP_URL";
const BASE_URL: &str = "WORKER_PROCESS_BASE_URL";

/// Not a test: the process of a worker, which tests start and kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests"]
async fn worker_process() {
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
    let (Some(url), Some(base_url)) = (variable(AMQP_URL), variable(BASE_URL)) else {
        return;
    };
    let runner = TestRunner::new(base_url);
    let (shares, name) = (shares(&url), worker_name("killed"));
    serve(&shares, &runner, &name, CancellationToken::new(), |_| ()).await;
}

fn start_process(url: &str, base_url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "losses::worker_process", "--ignored", "--nocapture"])
        .env(AMQP_URL, url)
        .env(BASE_URL, base_url)
        // Its line "test result:" would be taken for that of these tests. A panic is told on stderr.
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// `kill -9` in the middle of the run: the report says whose share is missing, and has the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_in_the_report() {
    let (server, url) = (server(), amqp_url().await);
    let runner = TestRunner::new(server.base_url());
    let worker = TestWorker::start(&url, "survivor", runner.clone());
    let mut process = start_process(&url, &server.base_url());
    let (started, mut is_started) = tokio::sync::mpsc::channel(1);
    let (lost, mut is_lost) = tokio::sync::mpsc::channel(1);
    let hear = move |event: CoordinatorEvent<'_>| match event {
        CoordinatorEvent::Started => started.try_send(()).unwrap(),
        CoordinatorEvent::Lost(..) => lost.try_send(()).unwrap(),
        _ => {}
    };
    let killing = async {
        is_started.recv().await.unwrap();
        asked_more(&server, 12).await;
        process.kill().await.unwrap();
        is_lost.recv().await.unwrap();
        // The run would go on for an hour.
        assert!(worker.stop().await.is_empty());
    };
    let asked = asked(endless(), 2);
    let (merged, ()) = tokio::join!(coordinated(&url, &asked, hear), killing);

    let report = merged.unwrap().report("0");
    let (lost, done): (Vec<_>, Vec<_>) = report
        .workers
        .iter()
        .partition(|worker| worker.outcome != WorkerOutcome::Done);
    assert_eq!((&*lost[0].name, &*done[0].name), ("killed", "survivor"));
    assert_eq!((lost.len(), lost[0].requests), (1, None));
    assert!(!report.is_valid());
    assert!(
        report.problems[0].contains("killed on here was lost"),
        "{:?}",
        report.problems
    );
    assert_eq!(Some(report.requests), done[0].requests);
    assert_eq!(
        report.requests.scheduled + report.warmup_requests,
        runner.records.lock().unwrap().len() as u64
    );
}

/// Before the run a share goes to another worker, and nothing was done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_away_before_the_run_is_replaced() {
    let (server, url) = (server(), amqp_url().await);
    let asked = asked(plan(), 2);
    let (joined, mut has_joined) = tokio::sync::mpsc::channel(4);
    let hear = move |event: CoordinatorEvent<'_>| {
        if let CoordinatorEvent::Joined(worker) = event {
            joined.try_send(worker.name.clone()).unwrap();
        }
    };
    let runner = TestRunner::new(server.base_url());
    let replacing = async {
        let fickle = shares(&url).take().await.unwrap();
        let hello = serde_json::json!({ "version": 1, "says": {
            "kind": "hello",
            "worker": { "name": "fickle", "host": "here", "cores": 1, "version": "0" },
            "share": serde_json::from_slice::<serde_json::Value>(fickle.offer()).unwrap()["says"]["share"],
        }});
        fickle.send(hello.to_string().into()).await.unwrap();
        assert_eq!(has_joined.recv().await.unwrap(), "fickle");
        fickle.close().await;
        ["a", "b"].map(|name| TestWorker::start(&url, name, runner.clone()))
    };
    let (merged, workers) = tokio::join!(coordinated(&url, &asked, hear), replacing);
    let report = merged.unwrap().report("0");
    for worker in workers {
        assert!(worker.stop().await.is_empty());
    }
    let left: Vec<_> = report
        .workers
        .iter()
        .flat_map(|worker| &worker.left_before_start)
        .collect();
    assert_eq!(left, ["fickle"]);
    assert_eq!((report.requests.ok, report.warmup_requests), (36, 4));
    assert_eq!(server.stats().requests, 40);
}

/// Nobody would hear of the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_coordinator_is_gone_ends_its_run() {
    let (server, url) = (server(), amqp_url().await);
    let runner = TestRunner::new(server.base_url());
    let worker = TestWorker::start(&url, "left alone", runner.clone());
    let asked = asked(endless(), 1);
    tokio::select! {
        merged = coordinated(&url, &asked, |_| ()) => panic!("{merged:?}"),
        () = asked_more(&server, 8) => {}
    }
    until("the end of the run", async || {
        !runner.records.lock().unwrap().is_empty()
    })
    .await;
    let errors = worker.stop().await;
    assert_eq!(errors, ["the coordinator cannot be reached"]);
}
