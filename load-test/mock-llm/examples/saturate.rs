//! How much one core of the mock server serves: a raw client with many connections in the same process, on one thread.
//!
//! ```text
//! cargo run --release -p mock-llm --example saturate -- [connections] [tokens] [ttft in ms] [itl in ms] [seconds]
//! ```
//!
//! Prints requests/s and tokens/s, the lateness by the server's own stamps, and how busy either thread was: rate / busy is what
//! a core could do.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, fs, io, rc::Rc, time::Duration};

use mock_llm::{MockLlm, Settings, raise_open_files_limit};
use precise_time::MonotonicTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |default: u64| -> u64 {
        arguments
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (connections, tokens, ttft, itl, seconds) = (number(64), number(16), number(0), number(0), number(5));
    raise_open_files_limit()?;
    let server = MockLlm::start(Settings {
        ttft: Duration::from_millis(ttft),
        itl: Duration::from_millis(itl),
        output_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        ..Settings::default()
    })?;
    let lasts = Duration::from_secs(seconds);
    // All streams have begun before anything is measured.
    let ramp = Duration::from_millis(ttft + itl * tokens);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, load(&server, connections, ramp, lasts))?;
    let stats = server.shutdown()?;
    println!("first tokens: {:?}", stats.first_token_lateness);
    println!("all tokens: {:?}", stats.token_lateness);
    Ok(())
}

async fn load(server: &MockLlm, connections: u64, ramp: Duration, lasts: Duration) -> io::Result<()> {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Say something."}]}"#;
    let request: Rc<str> = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into();
    let mut streams = JoinSet::new();
    for index in 0..connections {
        let (address, request) = (server.addr(), Rc::clone(&request));
        // Spread over the ramp: a burst would measure itself.
        let wait = ramp.mul_f64(index as f64 / connections as f64);
        streams.spawn_local(async move {
            let mut socket = TcpStream::connect(address).await?;
            tokio::time::sleep(wait).await;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                socket.write_all(request.as_bytes()).await?;
                loop {
                    let length = socket.read(&mut buffer).await?;
                    if length == 0 || buffer[..length].ends_with(b"\r\n0\r\n\r\n") {
                        break;
                    }
                }
            }
            #[expect(unreachable_code, reason = "it says what the block returns")]
            Ok::<(), io::Error>(())
        });
    }
    tokio::time::sleep(ramp).await;
    let (before, busy_before, began) = (server.stats(), busy(), MonotonicTime::now());
    tokio::select! {
        biased;
        Some(ended) = streams.join_next() => return ended.map_err(io::Error::other)?,
        () = tokio::time::sleep(lasts) => {}
    }
    let (after, busy_after) = (server.stats(), busy());
    let seconds = MonotonicTime::now().saturating_since(began).as_secs_f64();
    println!(
        "{:.0} requests/s, {:.0} tokens/s",
        (after.requests - before.requests) as f64 / seconds,
        (after.tokens - before.tokens) as f64 / seconds
    );
    for ((name, before), (_, after)) in busy_before.iter().zip(&busy_after) {
        println!("{name}: busy {:.1} %", (after - before) as f64 / 1e7 / seconds);
    }
    Ok(())
}

/// The threads and their processor time in ns. Empty where there is no `/proc`.
fn busy() -> Vec<(String, u64)> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let parsed = threads.filter_map(|thread| {
        let thread = thread.ok()?.path();
        let times = fs::read_to_string(thread.join("schedstat")).ok()?;
        let on_processor = times.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(thread.join("comm")).ok()?;
        Some((name.trim().to_owned(), on_processor))
    });
    parsed.collect()
}
