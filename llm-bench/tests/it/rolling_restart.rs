use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{
    load::{Load, Task},
    process::{free_address, until},
    rankings::Api,
    real_servers::{Deployment, KEY},
};

#[tokio::test]
async fn a_rolling_restart_drops_no_request_and_counts_every_batch_once() {
    const GRACE: Duration = Duration::from_secs(2);
    let settings = [("SHUTDOWN_GRACE_SECONDS", "2"), ("RATE_LIMIT_PER_SECOND", "0")];
    let busy = [("SIMULATION_INTERVAL", "0.1"), ("NUM_DATA_POINTS", "20")];
    let mut deployment = Deployment::without_benchmark(&busy).await;
    let (first_address, second_address) = (free_address(), free_address());
    let mut first = deployment.benchmark_at(&first_address, &settings);
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

    let second = deployment.benchmark_at(&second_address, &settings);
    until("the second serves", async || {
        load.answered_by(&second_address) > 100
    })
    .await;
    // A balancer notices late: meanwhile the first still gets requests, and has to tell its clients to go.
    load.let_balancer_sleep(true);
    let signalled = Instant::now();
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
    assert!(signalled.elapsed() < GRACE, "it says so within the grace");
    let ended = tokio::task::spawn_blocking(move || first.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    assert!(signalled.elapsed() > GRACE, "it served until the grace was over");
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
    second.stop();
}
