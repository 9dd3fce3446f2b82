//! What a token and a request cost the client's thread, in CPU time, the system calls included. Another thread serves canned
//! answers. `cargo run --release --example client_cost -p llm-client`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example for the console"
)]

use std::{
    net::SocketAddr,
    rc::Rc,
    thread,
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

fn main() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    task::LocalSet::new().block_on(&runtime, async {
        report("1 stream without pauses", "token", 1, 1, 500_000, None).await;
        report(
            "64 connections, answers of 16 tokens",
            "request",
            64,
            1_000,
            16,
            None,
        )
        .await;
        let pause = Duration::from_millis(20);
        report(
            "1 000 streams of 50 tokens/s",
            "token",
            1_000,
            1,
            150,
            Some(pause),
        )
        .await;
        report(
            "4 096 streams of 50 tokens/s",
            "token",
            4_096,
            1,
            150,
            Some(pause),
        )
        .await;
    });
}

/// Runs `requests` answers of `tokens` each over each of `connections` and prints what they cost.
async fn report(
    title: &str,
    unit: &str,
    connections: u32,
    requests: u32,
    tokens: u32,
    pause: Option<Duration>,
) {
    let address = serve(tokens, pause);
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
    let streams: Vec<_> = (0..connections)
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
    let total = connections * requests * if unit == "token" { tokens } else { 1 };
    println!(
        "{title}: {:.0} ns of CPU a {unit}, {:.0} {unit}s/s, CPU {:.0} % busy, resident {} MiB (both threads)",
        cpu.as_secs_f64() * 1e9 / f64::from(total),
        f64::from(total) / wall.as_secs_f64(),
        100.0 * cpu.as_secs_f64() / wall.as_secs_f64(),
        resident_mib(),
    );
}

async fn requests_one_by_one(client: Client, body: Bytes, requests: u32, tokens: u32) {
    for _ in 0..requests {
        let exchange = client.exchange(body.clone(), &mut ()).await;
        assert!(matches!(exchange.outcome, Outcome::Ok), "{exchange:?}");
        assert_eq!(exchange.content_chunks, tokens);
    }
}

/// A server in a thread of its own: every token in an HTTP chunk of its own, all at once or with a pause before each.
fn serve(tokens: u32, pause: Option<Duration>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::from_std(listener).unwrap();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n";
            let token = r#"data: {"id":"chatcmpl-123456789","object":"chat.completion.chunk","created":1763800000,"model":"meta/llama-3.1-8b","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}"#;
            let finish = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
            let chunk = |event: &str| format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2);
            let end = [&chunk(finish), &chunk("data: [DONE]"), "0\r\n\r\n"].concat();
            let answer: Rc<[String]> = match pause {
                None => Rc::new([[head, &chunk(token).repeat(tokens as usize), &end].concat()]),
                Some(_) => {
                    let tokens = (0..tokens).map(|_| chunk(token));
                    [head.to_owned()].into_iter().chain(tokens).chain([end]).collect()
                }
            };
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                task::spawn_local(answers(socket, Rc::clone(&answer), pause));
            }
        });
    });
    address
}

async fn answers(mut socket: TcpStream, parts: Rc<[String]>, pause: Option<Duration>) {
    socket.set_nodelay(true).unwrap();
    let mut request = [0; 4096];
    // A request of these comes in one piece. Who closes is done.
    while socket.read(&mut request).await.is_ok_and(|read| read > 0) {
        for part in &*parts {
            if socket.write_all(part.as_bytes()).await.is_err() {
                return;
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
