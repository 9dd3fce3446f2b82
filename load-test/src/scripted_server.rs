//! An HTTP server for tests, with real sockets: it answers one request after the other with the given answers.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

/// Ends after its last answer.
pub(crate) struct ScriptedServer {
    pub(crate) url: String,
    requests: JoinHandle<Vec<Request>>,
}

/// A request that it received.
pub(crate) struct Request {
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl ScriptedServer {
    pub(crate) fn start(answers: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut answers: VecDeque<String> = answers.into_iter().collect();
        let requests = thread::spawn(move || {
            let mut requests = Vec::new();
            while let Some(answer) = answers.pop_front() {
                let (stream, _) = listener.accept().unwrap();
                requests.push(answer_one(stream, &answer));
            }
            requests
        });
        Self { url, requests }
    }

    /// The requests; waits until all answers were sent.
    pub(crate) fn requests(self) -> Vec<Request> {
        self.requests.join().unwrap()
    }

    /// The heads of the requests, in lower case.
    pub(crate) fn heads(self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.head).collect()
    }
}

fn answer_one(mut stream: TcpStream, answer: &str) -> Request {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "cut: {head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    let body = String::from_utf8(body).unwrap();
    Request { head, body }
}

/// An answer that closes the connection.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}
