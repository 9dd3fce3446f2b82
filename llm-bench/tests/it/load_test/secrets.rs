//! Keys of APIs go to those APIs, and nowhere else.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Output,
    thread,
};

use super::{Bench, load_test, said};
use crate::process::run;

const CANARY: &str = "canary-provider-key-41c7";

/// Everything that a command said or wrote.
fn assert_silent(done: &Output, directory: &Path) {
    assert!(!said(done).contains(CANARY), "{}", said(done));
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                assert!(!text.contains(CANARY), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_key_is_in_no_log_and_no_file() {
    for (api, variable) in [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")] {
        // The right key, and one that the server refuses.
        for expected in [CANARY, "another-key"] {
            let bench = Bench::new(mock_llm::Settings {
                api_key: Some(expected.into()),
                ..super::quick()
            });
            let mut command =
                bench.command("--model m --max-num-completed-requests 3 --record-chunks --publish");
            command
                .args(["--llm-api", api])
                .env(variable, CANARY)
                .env("RUST_LOG", "trace")
                .env("LOG_FILE", bench.directory.path().join("log"));
            let done = run(command);
            assert_eq!(done.status.success(), expected == CANARY, "{}", said(&done));
            assert!(said(&done).contains("TRACE"), "it was loud: {}", said(&done));
            assert_silent(&done, bench.directory.path());
        }
    }
}

/// A server that answers every request in the same way, with `answer(request)`.
fn server(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, mut request) = (connection.unwrap(), Vec::new());
            let mut read = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match connection.read(&mut read).unwrap() {
                    0 => break,
                    n => request.extend_from_slice(&read[..n]),
                }
            }
            let answer = answer(&String::from_utf8_lossy(&request));
            // Whoever is gone has read enough.
            let _gone = connection.write_all(answer.as_bytes());
            let _gone = connection.shutdown(std::net::Shutdown::Write);
            let _rest = connection.read_to_end(&mut request);
        }
    });
    format!("http://{address}/v1")
}

fn asked(base: &str, results: &Path) -> Output {
    let mut command = load_test(
        base,
        "--model m --max-num-completed-requests 2 --no-calibration --allow-invalid",
    );
    command
        .arg("--results-dir")
        .arg(results)
        .env("OPENAI_API_KEY", CANARY);
    run(command)
}

#[test]
fn a_redirect_is_not_followed_with_the_key() {
    let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let location = format!("http://{}/v1/chat/completions", other.local_addr().unwrap());
    let base = server(move |_| {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    });
    let directory = tempfile::tempdir().unwrap();
    let done = asked(&base, directory.path());
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert_eq!(super::report(directory.path())["requests"]["http_error"], 2);
    other.set_nonblocking(true).unwrap();
    let visitor = other.accept().map_err(|error| error.kind());
    assert!(matches!(visitor, Err(ErrorKind::WouldBlock)), "{visitor:?}");
    assert_silent(&done, directory.path());
}

/// Some servers say which key they refuse.
#[test]
fn a_server_that_tells_the_key_back_does_not_get_it_into_the_files() {
    let base = server(|request| {
        assert!(request.contains(CANARY), "it is sent");
        let body = format!("{{\"error\": {{\"message\": \"Incorrect API key provided: {CANARY}.\"}}}}");
        let length = body.len();
        format!(
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    });
    let directory = tempfile::tempdir().unwrap();
    let done = asked(&base, directory.path());
    assert!(said(&done).contains("401"), "{}", said(&done));
    assert_silent(&done, directory.path());
}
