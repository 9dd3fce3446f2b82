use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use test_patience::until;

use crate::{
    load::{Load, Task},
    process::free_address,
    rankings::Api,
    real_servers::{Deployment, KEY},
};

#[tokio::test]
async fn a_rolling_restart_drops_no_request_and_counts_every_batch_once() {
    const NO_LIMIT: (&str, &str) = ("RATE_LIMIT_PER_SECOND", "0");
    // The longest that there is, which the test cuts short.
    const LONG_GRACE: (&str, &str) = ("SHUTDOWN_GRACE_SECONDS", "300");
    const GRACE: (&str, &str) = ("SHUTDOWN_GRACE_SECONDS", "1");
    let busy = [("SIMULATION_INTERVAL", "0.1"), ("NUM_DATA_POINTS", "20")];
    let mut deployment = Deployment::without_benchmark(&busy).await;
    let (first_address, second_address) = (free_address(), free_address());
    let mut first = deployment.benchmark_at(&first_address, &[NO_LIMIT, LONG_GRACE]);
    let tasks = [
        Task::Read,
        Task::Read,
        Task::Read,
        Task::Read,
        Task::Write,
        Task::Write,
    ];
    let load = Load::start(&[&first_address, &second_address], KEY, &tasks);
    until("the first serves", async || {
        load.answered_by(&first_address) > 100
    })
    .await;

    let second = deployment.benchmark_at(&second_address, &[NO_LIMIT, GRACE]);
    until("the second serves", async || {
        load.answered_by(&second_address) > 100
    })
    .await;
    // A balancer notices late: meanwhile the first still gets requests, and has to tell its clients to go.
    load.let_balancer_sleep(true);
    first.signal(Signal::SIGTERM);
    let leaving = Api::open(&format!("http://{first_address}"));
    until("the first says that it leaves", async || {
        let (status, report) = leaving.get("/readyz").await;
        status == 503 && report["components"]["process"]["state"] == "missing"
    })
    .await;
    until("the first has asked a client to leave", async || {
        load.closed_by_servers() > 0
    })
    .await;
    load.let_balancer_sleep(false);
    load.until_avoided(&first_address).await;
    assert_eq!(leaving.get("/healthz").await.0, 200, "it serves within the grace");
    // The second signal ends the grace.
    first.signal(Signal::SIGTERM);
    let ended = tokio::task::spawn_blocking(move || first.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    let served = load.answered_by(&second_address);
    until("the second goes on", async || {
        load.answered_by(&second_address) > served + 100
    })
    .await;

    let seen = load.end().await;
    assert_eq!(seen.failures, Vec::<String>::new());
    deployment.api.url = format!("http://{second_address}");
    deployment.stop_simulation();
    deployment.assert_exact("").await;
    // The simulation draws values for this LLM too, and none that ends in .25.
    let stored = &deployment.stored().await[&("ttft".to_owned(), "Roller".to_owned())];
    let sent = stored.iter().filter(|value| value.fract() == 0.25).count();
    assert_eq!(sent, seen.accepted);
    let signalled = Instant::now();
    second.stop();
    assert!(
        signalled.elapsed() > Duration::from_secs(1),
        "it serves until the grace is over"
    );
}
