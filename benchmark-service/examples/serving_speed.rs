//! How much of a bare actix-web handler's speed the rankings keep: requests a second at 1, 32 and 256 connections,
//! of this service and of a handler that returns the same bytes, taken in turns.
//!
//! `cargo run --release -p benchmark-service --example serving_speed`

#![expect(clippy::print_stdout, reason = "the measurement is the output")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use benchmark_service::{AccessPolicy, Dependencies, RateLimit, Selection, Service, Settings};
use broker::Broker;
use broker_in_process::InProcessBroker;
use outbox::{Outbox, OutboxMetrics, OutboxSettings};
use service_runtime::{lifecycle::Lifecycle, operations::metrics_registry};
use shared_types::{Clock, RegistrySeed, SystemClock, message};
use storage::{Projection, Storage};
use storage_sqlite::{Location, SqliteStorage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATH: &str = "/api/v1/benchmarks/rankings";
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let life = Lifecycle::new();
    let service = start_service(&life).await?;
    let body = until_ranked(service).await?;
    println!("body: {} bytes", body.len());
    let bare = start_bare(&life, body)?;
    println!(
        "{:>11} {:>12} {:>12} {:>7}",
        "connections", "bare req/s", "ours req/s", "ratio"
    );
    for connections in [1, 32, 256] {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            pairs.push((
                measure(bare, connections).await?,
                measure(service, connections).await?,
            ));
        }
        pairs.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (bare, ours) = pairs[ROUNDS / 2];
        println!("{connections:>11} {bare:>12.0} {ours:>12.0} {:>7.3}", ours / bare);
    }
    life.end();
    Ok(life.drained().await?)
}

/// A service whose four LLMs have values of every metric.
async fn start_service(life: &Lifecycle) -> Result<SocketAddr, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(Location::Ephemeral, Arc::clone(&clock))?);
    let broker: Arc<dyn Broker> = Arc::new(InProcessBroker::new(64));
    let (registry_seed, metrics) = (RegistrySeed::standard()?, metrics_registry()?);
    storage::Maintenance::migrate(&storage).await?;
    storage::Registry::seed(&storage, &registry_seed, clock.now()).await?;
    for llm in &registry_seed.llms {
        for metric in &registry_seed.metrics {
            let values: Vec<f64> = (0..1000).map(|i| 0.1 + f64::from(i).sqrt()).collect();
            let batch = serde_json::json!({
                "llm_name": llm.name, "metric": metric.title, "values": values, "source": "simulated",
                "timestamp": clock.now(),
            });
            storage
                .apply(&message::decode(batch.to_string().as_bytes())?)
                .await?;
        }
    }
    let outbox_metrics = OutboxMetrics::register(&metrics)?;
    let dependencies = Dependencies {
        outbox: Outbox::start(
            life,
            Arc::clone(&storage),
            broker.publisher(),
            OutboxSettings::default(),
            outbox_metrics,
        ),
        storage,
        broker,
        clock,
        metrics,
    };
    let settings = Settings {
        http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        access: AccessPolicy {
            anonymous_read: true,
            ..AccessPolicy::default()
        },
        default_selection: Selection::default(),
        rate_limit: RateLimit::Queries(std::num::NonZeroU32::MIN),
        registry_seed,
        migrate_at_start: false,
    };
    let service = Service::build(settings, dependencies, life)?;
    let address = service.addr();
    service.start();
    Ok(address)
}

/// A handler that does nothing but return the bytes.
fn start_bare(life: &Lifecycle, body: web::Bytes) -> Result<SocketAddr, Failure> {
    let server = HttpServer::new(move || {
        let body = body.clone();
        App::new().route(
            PATH,
            web::get().to(move || {
                let body = body.clone();
                async { HttpResponse::Ok().content_type("application/json").body(body) }
            }),
        )
    })
    .disable_signals()
    .bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    let server = server.run();
    let (handle, shutdown) = (server.handle(), life.shutdown());
    life.spawn_fallible("bare server", server);
    life.spawn("bare server's end", async move {
        shutdown.cancelled().await;
        handle.stop(false).await;
    });
    Ok(address)
}

async fn until_ranked(service: SocketAddr) -> Result<web::Bytes, Failure> {
    let url = format!("http://{service}{PATH}");
    let started = Instant::now();
    loop {
        let body = reqwest::get(&url).await?.bytes().await?;
        if body.len() > 1000 {
            return Ok(body);
        }
        if started.elapsed() > Duration::from_secs(10) {
            return Err("no rankings after 10 s".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Requests a second over as many connections that ask again as soon as they are answered.
async fn measure(server: SocketAddr, connections: usize) -> Result<f64, Failure> {
    let (answered, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        clients.spawn(ask_until(server, Arc::clone(&answered), Arc::clone(&over)));
    }
    tokio::time::sleep(ROUND / 10).await;
    let (started, before) = (Instant::now(), answered.load(Ordering::Relaxed));
    tokio::time::sleep(ROUND).await;
    let count = answered.load(Ordering::Relaxed) - before;
    let elapsed = started.elapsed();
    over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of some seconds")]
    Ok(count as f64 / elapsed.as_secs_f64())
}

async fn ask_until(
    server: SocketAddr,
    answered: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: {server}\r\nAccept: */*\r\n\r\n");
    let mut buffer = vec![0; 64 * 1024];
    let mut length = None;
    while !over.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        while length.is_none_or(|length| read < length) {
            read += match stream.read(&mut buffer[read..]).await? {
                0 => return Err("the server closed the connection".into()),
                n => n,
            };
            length = length.or_else(|| answer_length(&buffer[..read]));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Bytes of the whole answer; every answer of one server is as long as its first.
fn answer_length(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..head]).ok()?.to_ascii_lowercase();
    let (_, after) = text.split_once("content-length: ")?;
    let body: usize = after.split_once("\r\n")?.0.parse().ok()?;
    Some(head + body)
}
