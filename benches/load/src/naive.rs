//! A simple client, for comparison: hyper on one thread, with a task for each connection and one for each stream.
//!
//! It counts lines that begin with `data:`, and takes the time of a frame after hyper returned it. It parses no API, handles no errors and
//! gives no verdict; it keeps only [`RequestTimes`] of a request. The difference to the load test's engine is the cost of measuring.

use anyhow::Context;
use bytes::Bytes;
use http::{
    Method, Request,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use precise_time::MonotonicTime;
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use crate::{
    client_run::{ClientRun, RequestTimes},
    engine::{endpoint, request},
    scenario::Scenario,
};

/// The number of the event with the first token of a chat; the first event holds the role.
const FIRST_TOKEN_EVENT: u32 = 2;

#[derive(Clone)]
struct Target {
    authority: String,
    path: String,
    body: Bytes,
    tokens: u32,
}

/// Runs the scenario, whose ramp begins at `begun`.
pub(crate) fn run(scenario: &Scenario, base_url: &str, begun: MonotonicTime) -> anyhow::Result<ClientRun> {
    let rest = base_url.strip_prefix("http://").context("an http URL")?;
    let (authority, path) = rest.split_once('/').context("a path")?;
    let target = Target {
        authority: authority.to_owned(),
        path: format!("/{path}/chat/completions"),
        body: request(&endpoint(base_url)?, scenario)?.body,
        tokens: scenario.tokens,
    };
    let until = begun + scenario.ramp + scenario.steady;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = JoinSet::new();
        for number in 0..scenario.streams {
            let due = scenario
                .ramp
                .mul_f64(f64::from(number) / f64::from(scenario.streams));
            streams.spawn(stream(target.clone(), begun + due, until));
        }
        let mut requests = Vec::new();
        while let Some(ended) = streams.join_next().await {
            requests.extend(ended??);
        }
        Ok(ClientRun {
            requests,
            self_report: None,
        })
    })
}

async fn stream(
    target: Target,
    due: MonotonicTime,
    until: MonotonicTime,
) -> anyhow::Result<Vec<RequestTimes>> {
    sleep(due.saturating_since(MonotonicTime::now())).await;
    let socket = TcpStream::connect(&target.authority).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let mut requests = Vec::new();
    while MonotonicTime::now() < until {
        requests.push(exchange(&mut sender, &target).await?);
    }
    drop(sender);
    connection.await??;
    Ok(requests)
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, target: &Target) -> anyhow::Result<RequestTimes> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(target.body.clone()))?;
    sender.ready().await?;
    let sent = MonotonicTime::now();
    let response = sender.send_request(request).await?;
    let is_ok = response.status().is_success();
    let mut body = response.into_body();
    let (mut events, mut first, mut last, mut server_wrote_first) = (0, None, None, None);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let at = MonotonicTime::now();
        events += data_lines(&data);
        if events >= FIRST_TOKEN_EVENT {
            first.get_or_insert(at);
        }
        if events <= target.tokens + 1 {
            last = Some(at);
        } else {
            server_wrote_first = server_wrote_first.or_else(|| first_token_written(&data));
        }
    }
    Ok(RequestTimes {
        sent: Some(sent),
        first,
        last,
        closed: MonotonicTime::now(),
        tokens: events.min(target.tokens + 1).saturating_sub(1),
        server_wrote_first,
        is_ok,
    })
}

fn data_lines(frame: &[u8]) -> u32 {
    let mut lines = 0;
    let mut rest = frame;
    while !rest.is_empty() {
        lines += u32::from(rest.starts_with(b"data:"));
        let Some(end) = memchr::memchr(b'\n', rest) else {
            break;
        };
        rest = &rest[end + 1..];
    }
    lines
}

/// The server's own time of writing the first token, which the event after the last token holds.
fn first_token_written(event: &[u8]) -> Option<MonotonicTime> {
    const FIELD: &[u8] = b"\"first_token_written_ns\":";
    let at = memchr::memmem::find(event, FIELD)? + FIELD.len();
    let digits = event[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let nanos = digits.fold(0, |nanos: u64, digit| nanos * 10 + u64::from(digit - b'0'));
    Some(MonotonicTime::from_nanos(nanos))
}
