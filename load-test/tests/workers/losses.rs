use std::{
    process::{Child, Command},
    time::Duration,
};

use broker::Shares;
use load_test::{
    report::model::WorkerOutcome,
    workers::{CoordinatorEvent, serve},
};
use tokio_util::sync::CancellationToken;

use crate::bench::{TestRunner, TestWorker, amqp_url, asked, coordinated, plan, server, shares, worker_name};

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
        .args(["--exact", "losses::worker_process", "--ignored"])
        .env(AMQP_URL, url)
        .env(BASE_URL, base_url)
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
    let mut longer = plan();
    longer.stop.max_requests = None;
    longer.stop.send_for = Duration::from_secs(5);
    let (started, mut is_started) = tokio::sync::mpsc::channel(1);
    let hear = move |event: CoordinatorEvent<'_>| {
        if event == CoordinatorEvent::Started {
            started.try_send(()).unwrap();
        }
    };
    let killing = async {
        is_started.recv().await.unwrap();
        while server.stats().requests < 12 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
    };
    let asked = asked(longer, 2);
    let (merged, ()) = tokio::join!(coordinated(&url, &asked, hear), killing);
    assert!(worker.stop().await.is_empty());

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
    let mut endless = plan();
    endless.stop.max_requests = None;
    endless.stop.send_for = Duration::from_secs(3600);
    let asked = asked(endless, 1);
    {
        let coordinating = coordinated(&url, &asked, |_| ());
        let running = async {
            while server.stats().requests < 8 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            merged = coordinating => panic!("{merged:?}"),
            () = running => {}
        }
    }
    let ended = async {
        while runner.records.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .expect("the run goes on");
    let errors = worker.stop().await;
    assert_eq!(errors, ["the coordinator cannot be reached"]);
}
