use std::time::Duration;

use broker::Shares;
use load_test::workers::{CoordinateError, Coordination, MessageError};
use test_patience::{patience, soon};

use crate::bench::{TestRunner, TestWorker, amqp_url, asked, coordinated, plan, server, shares};

/// Nothing is sent, whatever the reason.
async fn refused(url: &str, asked: &Coordination) -> CoordinateError {
    coordinated(url, asked, |_| ()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_refuses_an_unknown_version() {
    let (server, url) = (server(), amqp_url().await);
    let worker = TestWorker::start(&url, "a", TestRunner::new(server.base_url()));
    let offers = vec![r#"{"version": 2, "tells": {}}"#.into()];
    let mut offered = shares(&url).offer("run", offers, patience()).await.unwrap();
    let answer = soon("an answer", offered.next()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["says"]["kind"], "failed");
    let reason = answer["says"]["reason"].as_str().unwrap();
    assert!(reason.contains("protocol version 2: expected 1"), "{reason}");
    offered.close().await;
    assert_eq!(worker.stop().await, ["the coordinator's message cannot be used"]);
    assert_eq!(server.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_refuses_an_unknown_version() {
    let url = amqp_url().await;
    let newer = async {
        let taken = shares(&url).take().await.unwrap();
        taken
            .send(r#"{"version": 9, "says": "hi"}"#.into())
            .await
            .unwrap();
        taken
    };
    let asked = asked(plan(), 1);
    let (error, _taken) = tokio::join!(refused(&url, &asked), newer);
    let CoordinateError::Message(MessageError::Version { found }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(found, 9);
}

/// It has not even said who it is: such as one that does not understand the offer.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_refuses_ends_the_wait() {
    let url = amqp_url().await;
    let older = async {
        let taken = shares(&url).take().await.unwrap();
        let refusal = r#"{"version": 1, "says": {"kind": "failed", "reason": "too new for me"}}"#;
        taken.send(refusal.into()).await.unwrap();
        taken
    };
    let asked = asked(plan(), 2);
    let (error, _taken) = tokio::join!(refused(&url, &asked), older);
    assert_eq!(error.to_string(), "a worker cannot take part: too new for me");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_its_workers_says_how_many_came() {
    let server = server();
    let mut seconds = 1;
    let error = loop {
        let url = amqp_url().await;
        let worker = TestWorker::start(&url, "only", TestRunner::new(server.base_url()));
        let asked = Coordination {
            worker_timeout: Duration::from_secs(seconds),
            ..asked(plan(), 2)
        };
        let error = refused(&url, &asked).await.to_string();
        worker.stop().await;
        // On a busy machine even the one may need longer to come.
        if !error.starts_with("0 of 2 workers") || asked.worker_timeout >= patience() {
            break error;
        }
        seconds *= 2;
    };
    assert_eq!(
        error,
        format!(
            "1 of 2 workers came within {seconds} s (only on here); expected 2 of `llm-bench load-test --worker` with the same AMQP_URL"
        )
    );
    assert_eq!(server.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_have_to_ask_the_same() {
    let (server, url) = (server(), amqp_url().await);
    let same = TestRunner::new(server.base_url());
    let other = TestRunner {
        prompt: "Say something else.",
        ..same.clone()
    };
    let workers = [
        TestWorker::start(&url, "a", same),
        TestWorker::start(&url, "b", other),
    ];
    let error = refused(&url, &asked(plan(), 2)).await;
    assert!(matches!(error, CoordinateError::Differ { .. }), "{error:?}");
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(server.stats().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_has_work_for_every_worker() {
    let error = refused(&amqp_url().await, &asked(plan(), 5)).await.to_string();
    assert_eq!(
        error,
        "5 workers for 4 concurrent requests: expected at least one for each worker"
    );
}
