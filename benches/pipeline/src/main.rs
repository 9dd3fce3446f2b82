//! `make bench`: the speed of llm-bench, as ratios to a limit that is measured in the same run.
//!
//! Each result is one line, `bench NAME ratio=R …figures…`. A ratio of 1 means that llm-bench is as fast as bare sqlx, lapin or
//! actix-web code that does the same work.

#![expect(clippy::print_stdout, reason = "the result of a benchmark is what it prints")]

mod bare_pipeline;
mod bare_server;
mod http_load;
mod memory;
mod pipeline;
mod rankings;
mod services;
mod workload;

use anyhow::Context;
use test_servers::{shared_postgres, shared_rabbitmq};

const PARTS: [&str; 2] = ["pipeline", "serving"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The bare server runs as a process of its own, like the service that it is compared with.
        ["bare-server", body_file] => bare_server::run(body_file).await,
        [] => bench(&PARTS).await,
        [part] if PARTS.contains(&part) => bench(&[part]).await,
        _ => anyhow::bail!("found {arguments:?}, expected nothing or one of {PARTS:?}"),
    }
}

async fn bench(parts: &[&str]) -> anyhow::Result<()> {
    let (postgres, rabbitmq) = (shared_postgres().await, shared_rabbitmq().await);
    if parts.contains(&"pipeline") {
        pipeline::bench(postgres, rabbitmq).await.context("pipeline")?;
    }
    if parts.contains(&"serving") {
        let services = services::Services::start(postgres, rabbitmq)
            .await
            .context("starting the services")?;
        rankings::bench(&services).await.context("rankings")?;
        memory::bench(&services)?;
        services.stop().await?;
    }
    Ok(())
}
