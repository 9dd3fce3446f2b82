//! (b) The throughput of serving rankings, relative to a bare handler that returns the same bytes.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    bare_server,
    http_load::{LoadResult, load},
    memory,
    services::{Services, end},
};

const PATH: &str = "/api/v1/benchmarks/rankings";
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const ROUND: Duration = Duration::from_secs(2);
/// Repetitions; the result is the median ratio.
const ROUNDS: usize = 5;

pub(crate) async fn bench(services: &Services) -> anyhow::Result<()> {
    let few = services.simulate(250, "3600", 4_000).await?;
    end(few).await?;
    measure(services).await?;

    const MILLIONS: u64 = 1_600_000;
    let many = services.simulate(1000, "0.02", MILLIONS).await?;
    memory::report("simulation-service", many.id().context("its pid")?)?;
    end(many).await?;
    measure(services).await
}

async fn measure(services: &Services) -> anyhow::Result<()> {
    let values = services.settled().await?;
    let body = reqwest::get(format!("http://{}{PATH}", services.api))
        .await?
        .bytes()
        .await?;
    let file = std::env::temp_dir().join(format!("llm-bench-rankings-{}.json", std::process::id()));
    std::fs::write(&file, &body)?;
    let (mut bare, bare_addr) = bare(&file).await?;
    for connections in CONNECTIONS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let limit = load(bare_addr, PATH, connections, ROUND, body.len()).await?;
            let ours = load(services.api, PATH, connections, ROUND, body.len()).await?;
            rounds.push((ours.requests_per_s / limit.requests_per_s, ours, limit));
        }
        print(values, connections, body.len(), rounds);
    }
    bare.kill().await?;
    std::fs::remove_file(file)?;
    Ok(())
}

fn print(values: u64, connections: usize, bytes: usize, mut rounds: Vec<(f64, LoadResult, LoadResult)>) {
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, ours, bare) = rounds[rounds.len() / 2];
    println!(
        "bench rankings ratio={ratio:.2} values={values} connections={connections} ours={:.0}/s bare={:.0}/s \
         ours_p99={:?} bare_p99={:?} body={bytes}B rounds={} goal=0.90",
        ours.requests_per_s, bare.requests_per_s, ours.p99, bare.p99, ROUNDS,
    );
}

async fn bare(body: &std::path::Path) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bare-server")
        .arg(body)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let line = lines.next_line().await?.context("the bare server ended")?;
    let addr = line
        .strip_prefix(bare_server::LISTENING)
        .context("its address")?
        .parse()?;
    Ok((child, addr))
}
