//! What a token and a request cost the client's thread, in CPU time, the system calls included, and what the streams hold in
//! memory. Another process serves canned answers.
//! `cargo run --release --example client_cost -p llm-client [a part of a title below]`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example for the console"
)]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use llm_client::{Api, Client, Endpoint, Generation, Limits, Outcome, Prompt};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime, task,
};

/// What is run: `requests` answers of `tokens` each over each of `connections`, one after the other.
struct Scenario {
    title: &'static str,
    unit: &'static str,
    connections: u32,
    requests: u32,
    tokens: u32,
    pause: Duration,
}

const fn scenario(
    (title, unit): (&'static str, &'static str),
    connections: u32,
    requests: u32,
    tokens: u32,
    pause_ms: u64,
) -> Scenario {
    Scenario {
        title,
        unit,
        connections,
        requests,
        tokens,
        pause: Duration::from_millis(pause_ms),
    }
}

const SCENARIOS: [Scenario; 4] = [
    scenario(("1 stream without pauses", "token"), 1, 1, 500_000, 0),
    scenario(
        ("64 connections, answers of 16 tokens", "request"),
        64,
        1_000,
        16,
        0,
    ),
    scenario(("4096 streams of 50 tokens/s", "token"), 4_096, 1, 150, 20),
    scenario(("10000 streams of 1 token/s", "token"), 10_000, 1, 10, 1_000),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let tasks = task::LocalSet::new();
    match &arguments[..] {
        [serve, tokens, pause] if serve == "serve" => {
            let pause = Duration::from_millis(pause.parse().unwrap());
            tasks.block_on(&runtime, serve_for_ever(tokens.parse().unwrap(), pause));
        }
        parts => {
            let wanted = |title: &str| parts.iter().all(|part| title.contains(part));
            for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.title)) {
                tasks.block_on(&runtime, report(scenario));
            }
        }
    }
}

/// Runs one and prints what it cost.
async fn report(scenario: &Scenario) {
    let (mut server, address) = start_server(scenario);
    let endpoint = Endpoint::new(Api::OpenAiChat, &format!("http://{address}/v1"), None).unwrap();
    let body = endpoint.encode(&Generation {
        model: "m",
        prompt: Prompt::Text("hello"),
        max_tokens: None,
        stream: true,
        sampling: &serde_json::Map::new(),
    });
    let client = Client::new(endpoint, Limits::default());
    let (cpu, wall) = (thread_time(), Instant::now());
    let Scenario { requests, tokens, .. } = *scenario;
    let streams: Vec<_> = (0..scenario.connections)
        .map(|_| {
            task::spawn_local(requests_one_by_one(
                client.clone(),
                body.clone(),
                requests,
                tokens,
            ))
        })
        .collect();
    for stream in streams {
        stream.await.unwrap();
    }
    let (cpu, wall) = (thread_time() - cpu, wall.elapsed());
    server.kill().unwrap();
    server.wait().unwrap();
    let Scenario { title, unit, .. } = scenario;
    let per_request = if *unit == "token" { tokens } else { 1 };
    let total = f64::from(scenario.connections * requests * per_request);
    println!(
        "{title}: {:.0} ns of CPU a {unit}, {:.0} {unit}s/s, CPU {:.0} % busy, at most {} MiB resident",
        cpu.as_secs_f64() * 1e9 / total,
        total / wall.as_secs_f64(),
        100.0 * cpu.as_secs_f64() / wall.as_secs_f64(),
        most_resident_mib(),
    );
}

fn start_server(scenario: &Scenario) -> (Child, SocketAddr) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(scenario.tokens.to_string())
        .arg(scenario.pause.as_millis().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let output = server.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut address).unwrap();
    let address = address.trim().parse().unwrap();
    (server, address)
}

async fn requests_one_by_one(client: Client, body: Bytes, requests: u32, tokens: u32) {
    for _ in 0..requests {
        let exchange = client.exchange(body.clone(), &mut ()).await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        assert_eq!(exchange.content_chunks, tokens);
    }
}

/// Every token in an HTTP chunk of its own, all at once or with a pause before each but the first.
async fn serve_for_ever(tokens: u32, pause: Duration) {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n";
    let token = r#"data: {"id":"chatcmpl-123456789","object":"chat.completion.chunk","created":1763800000,"model":"meta/llama-3.1-8b","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}"#;
    let finish = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let chunk = |event: &str| format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2);
    let end = [&chunk(finish), &chunk("data: [DONE]"), "0\r\n\r\n"].concat();
    let parts: Rc<[String]> = if pause.is_zero() {
        Rc::new([[head, &chunk(token).repeat(tokens as usize), &end].concat()])
    } else {
        let tokens = (0..tokens).map(|_| chunk(token));
        [head.to_owned()].into_iter().chain(tokens).chain([end]).collect()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        task::spawn_local(answers(socket, Rc::clone(&parts), pause));
    }
}

async fn answers(mut socket: TcpStream, parts: Rc<[String]>, pause: Duration) {
    socket.set_nodelay(true).unwrap();
    let mut request = [0; 4096];
    // A request of these comes in one piece. Who closes is done.
    while socket.read(&mut request).await.is_ok_and(|read| read > 0) {
        for part in &*parts {
            if socket.write_all(part.as_bytes()).await.is_err() {
                return;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn most_resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
