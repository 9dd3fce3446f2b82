//! A closed loop of HTTP/1.1 requests over persistent connections: each connection sends its next request as soon as its response is
//! complete.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// The performance of a server under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadResult {
    pub requests_per_s: f64,
    pub p99: Duration,
}

/// Loads `GET path` at `addr` with `connections` for `duration`. Every response must have status 200 and a body of
/// `body_bytes`.
pub(crate) async fn load(
    addr: SocketAddr,
    path: &str,
    connections: usize,
    duration: Duration,
    body_bytes: usize,
) -> anyhow::Result<LoadResult> {
    let request: Arc<[u8]> = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")
        .into_bytes()
        .into();
    let (started, end) = (Instant::now(), Instant::now() + duration);
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(one_connection(addr, Arc::clone(&request), end, body_bytes));
    }
    let mut micros = empty()?;
    while let Some(finished) = running.join_next().await {
        micros.add(finished??)?;
    }
    Ok(LoadResult {
        requests_per_s: micros.len() as f64 / started.elapsed().as_secs_f64(),
        p99: Duration::from_micros(micros.value_at_quantile(0.99)),
    })
}

fn empty() -> anyhow::Result<Histogram<u32>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

async fn one_connection(
    addr: SocketAddr,
    request: Arc<[u8]>,
    end: Instant,
    body_bytes: usize,
) -> anyhow::Result<Histogram<u32>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (mut micros, mut buffer) = (empty()?, vec![0; 64 * 1024]);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(micros);
        }
        stream.write_all(&request).await?;
        read_response(&mut stream, &mut buffer, body_bytes).await?;
        micros.saturating_record(u64::try_from(sent.elapsed().as_micros())?.max(1));
    }
}

async fn read_response(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    body_bytes: usize,
) -> anyhow::Result<()> {
    let mut filled = 0;
    let mut complete = usize::MAX;
    while filled < complete {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 => bail!("the server closed the connection"),
            n => filled += n,
        }
        if complete == usize::MAX
            && let Some(head) = buffer[..filled]
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
        {
            anyhow::ensure!(
                buffer.starts_with(b"HTTP/1.1 200 "),
                "the server answered {}",
                String::from_utf8_lossy(
                    buffer[..filled]
                        .split(|byte| *byte == b'\r')
                        .next()
                        .context("a line")?
                )
            );
            complete = head + 4 + body_bytes;
        }
    }
    anyhow::ensure!(
        filled == complete,
        "the body has {} bytes more than expected",
        filled - complete
    );
    Ok(())
}
