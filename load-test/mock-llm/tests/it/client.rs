use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use mock_llm::MockLlm;
use serde_json::{Value, json};
use test_patience::patience;

/// A connection whose reads have a timeout.
pub(crate) struct Client {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

/// A response as it was received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    /// Without the HTTP chunks' framing.
    pub body: Vec<u8>,
    pub chunks: usize,
    pub is_complete: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The data of all events, split by the standard's rules.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text().replace("\r\n", "\n");
        let data = |block: &str| -> Option<String> {
            let lines: Vec<_> = block
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|data| data.strip_prefix(' ').unwrap_or(data))
                .collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        text.split("\n\n").filter_map(data).collect()
    }

    /// The data of all events that are JSON.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let parsed = self.events().into_iter().filter(|event| event != "[DONE]");
        parsed
            .map(|event| serde_json::from_str(&event).unwrap())
            .collect()
    }
}

impl Client {
    pub(crate) fn of(server: &MockLlm) -> Self {
        let socket = TcpStream::connect(server.addr()).unwrap();
        // So that a test fails instead of hanging.
        socket.set_read_timeout(Some(patience())).unwrap();
        Self {
            socket,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, path: &str, body: &Value) -> Answer {
        self.send(&request("POST", path, &body.to_string()));
        self.answer()
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(&request("GET", path, ""));
        self.answer()
    }

    /// Returns `false` at the end of the connection, whether orderly or not.
    pub(crate) fn read_more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.socket.read(&mut bytes) {
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                length > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// The bytes before the end of the connection, and whether it was reset.
    pub(crate) fn until_the_end(&mut self) -> (String, bool) {
        let mut came = Vec::new();
        let ended = self.socket.read_to_end(&mut came);
        let is_reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        (String::from_utf8(came).unwrap(), is_reset)
    }

    pub(crate) fn read_at_least(&mut self, bytes: usize) {
        while self.buffer.len() < bytes && self.read_more() {}
        assert!(self.buffer.len() >= bytes);
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        self.buffer.drain(..bytes).collect()
    }

    /// The next response, or the part of it before the end of the connection.
    pub(crate) fn answer(&mut self) -> Answer {
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.read_more(),
                "no head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer {
            status,
            body: Vec::new(),
            chunks: 0,
            is_complete: false,
            head,
        };
        if answer.head.contains("transfer-encoding: chunked") {
            self.chunks(&mut answer);
        } else {
            let length = answer.head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            while self.buffer.len() < length && self.read_more() {}
            answer.is_complete = self.buffer.len() >= length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        }
        answer
    }

    fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(at) = find(&self.buffer, b"\r\n") else {
                if self.read_more() { continue } else { return }
            };
            let size = std::str::from_utf8(&self.buffer[..at]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.buffer.len() < at + size + 4 {
                if !self.read_more() {
                    return;
                }
            }
            let rest = self.buffer.split_off(at + size + 4);
            let chunk = std::mem::replace(&mut self.buffer, rest);
            assert!(chunk.ends_with(b"\r\n"));
            if size == 0 {
                answer.is_complete = true;
                return;
            }
            answer.body.extend_from_slice(&chunk[at + 2..at + 2 + size]);
            answer.chunks += 1;
        }
    }
}

pub(crate) fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: mock\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// A request that is valid for every API.
pub(crate) fn ask(model: &str, is_stream: bool, max_tokens: u32) -> Value {
    json!({
        "model": model,
        "stream": is_stream,
        "stream_options": {"include_usage": true},
        "max_tokens": max_tokens,
        "prompt": "one two three",
        "messages": [{"role": "user", "content": "one two three"}],
    })
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
