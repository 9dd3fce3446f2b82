//! Clients with kept-alive connections, behind a load balancer that asks `/servingz`. They never retry: a request without
//! a good response is a failure.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use test_patience::until;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

/// What all clients have observed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Good responses, by the address of the server.
    pub(crate) answers: BTreeMap<String, usize>,
    /// Good responses after which the server closed the connection.
    pub(crate) last_of_connection: usize,
    /// Batches that were accepted.
    pub(crate) accepted: usize,
    /// How many requests each client has sent.
    turns: Vec<usize>,
    /// Descriptions of everything that is not a good response.
    pub(crate) failures: Vec<String>,
}

/// The request that a client sends again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// A ranking.
    Read,
    /// Sends a batch of its own.
    Write,
}

pub(crate) struct Load {
    pub(crate) seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
    end: watch::Sender<bool>,
    ready: watch::Receiver<Vec<String>>,
    balancer_sleeps: Arc<AtomicBool>,
}

impl Load {
    /// Starts a client for each task, and the balancer that sends them to those of `addresses` that are ready.
    pub(crate) fn start(addresses: &[&str], key: &str, tasks: &[Task]) -> Self {
        let (end, ended) = watch::channel(false);
        let (ready, balanced) = watch::channel(Vec::new());
        let seen = Arc::new(Mutex::new(Seen {
            turns: vec![0; tasks.len()],
            ..Seen::default()
        }));
        let balancer_sleeps = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        let addresses = addresses.iter().map(ToString::to_string).collect();
        running.spawn(balance(
            addresses,
            ready,
            ended.clone(),
            Arc::clone(&balancer_sleeps),
        ));
        for (number, &task) in tasks.iter().enumerate() {
            let client = Client {
                number,
                task,
                key: key.to_owned(),
                ready: balanced.clone(),
                seen: Arc::clone(&seen),
                connection: None,
            };
            running.spawn(client.run(ended.clone()));
        }
        Self {
            seen,
            tasks: running,
            end,
            ready: balanced,
            balancer_sleeps,
        }
    }

    /// Waits until the balancer sends no client to this address, and every client has ended the request that it had begun.
    pub(crate) async fn until_avoided(&self, address: &str) {
        until("the balancer avoids the address", async || {
            !self.ready.borrow().iter().any(|ready| ready == address)
        })
        .await;
        let turns = || self.seen.lock().unwrap().turns.clone();
        let before = turns();
        until("every client has ended a request", async || {
            turns().iter().zip(&before).all(|(now, before)| now > before)
        })
        .await;
    }

    /// While the balancer sleeps, clients use the addresses that were ready when it last asked.
    pub(crate) fn let_balancer_sleep(&self, sleeps: bool) {
        self.balancer_sleeps.store(sleeps, Ordering::SeqCst);
    }

    /// How many connections the servers have closed after a good response.
    pub(crate) fn closed_by_servers(&self) -> usize {
        self.seen.lock().unwrap().last_of_connection
    }

    /// How many good responses this address has sent.
    pub(crate) fn answered_by(&self, address: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.answers.get(address).copied().unwrap_or(0)
    }

    /// Lets every client finish its request.
    pub(crate) async fn end(mut self) -> Seen {
        self.end.send_replace(true);
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn balance(
    addresses: Vec<String>,
    ready: watch::Sender<Vec<String>>,
    ended: watch::Receiver<bool>,
    sleeps: Arc<AtomicBool>,
) {
    while !*ended.borrow() {
        if sleeps.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let mut usable = Vec::new();
        for address in &addresses {
            let asked = Connection::ask_once(address, "GET /servingz HTTP/1.1\r\nhost: test\r\n\r\n").await;
            if asked.is_ok_and(|answer| answer.status == 200) {
                usable.push(address.clone());
            }
        }
        if !sleeps.load(Ordering::SeqCst) {
            ready.send_replace(usable);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Client {
    number: usize,
    task: Task,
    key: String,
    ready: watch::Receiver<Vec<String>>,
    seen: Arc<Mutex<Seen>>,
    connection: Option<Connection>,
}

impl Client {
    async fn run(mut self, ended: watch::Receiver<bool>) {
        for turn in 0_usize.. {
            if *ended.borrow() {
                return;
            }
            self.turn(turn).await;
            self.seen.lock().unwrap().turns[self.number] += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn turn(&mut self, turn: usize) {
        let ready = self.ready.borrow().clone();
        let Some(address) = ready.get((self.number + turn / 8) % ready.len().max(1)).cloned() else {
            return;
        };
        let request = self.request(turn);
        let kept = self
            .connection
            .take()
            .filter(|connection| connection.address == address);
        let asked = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(&address).await?,
            };
            let answer = connection.ask(&request).await?;
            Ok::<_, io::Error>((connection, answer))
        };
        match asked.await {
            Ok((connection, answer)) => self.note(connection, &answer),
            Err(error) => self.fail(format!("{address}: {error}")),
        }
    }

    fn request(&self, turn: usize) -> String {
        let key = &self.key;
        match self.task {
            Task::Read => {
                format!("GET /api/v1/rankings/ttft HTTP/1.1\r\nhost: test\r\napi-key: {key}\r\n\r\n")
            }
            Task::Write => {
                // Without an id equal contents are the same batch, so each has values of its own.
                let body = format!(
                    r#"{{"llm_name": "Roller", "metric": "ttft", "values": [{}.5, {turn}.25], "timestamp": "2026-01-01T00:00:00Z", "source": "simulated"}}"#,
                    self.number
                );
                format!(
                    "POST /api/v1/batches HTTP/1.1\r\nhost: test\r\napi-key: {key}\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }

    fn note(&mut self, connection: Connection, answer: &Answer) {
        let expected = match self.task {
            Task::Read => 200,
            Task::Write => 202,
        };
        if answer.status != expected {
            return self.fail(format!("{}: status {}", connection.address, answer.status));
        }
        let mut seen = self.seen.lock().unwrap();
        *seen.answers.entry(connection.address.clone()).or_default() += 1;
        seen.accepted += usize::from(matches!(self.task, Task::Write));
        if answer.last {
            seen.last_of_connection += 1;
        } else {
            self.connection = Some(connection);
        }
    }

    fn fail(&self, told: String) {
        self.seen.lock().unwrap().failures.push(told);
    }
}

/// A kept connection.
struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
}

struct Answer {
    status: u16,
    /// The server closes the connection.
    last: bool,
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        Ok(Self {
            address: address.to_owned(),
            stream: BufReader::new(TcpStream::connect(address).await?),
        })
    }

    async fn ask_once(address: &str, request: &str) -> io::Result<Answer> {
        Self::open(address).await?.ask(request).await
    }

    /// Sends a request and reads the whole answer, which must have a length.
    async fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.stream.write_all(request.as_bytes()).await?;
        let broken = |what: &str| io::Error::other(format!("{what} in answer to {request:.40}"));
        let (mut status, mut length, mut last) = (None, None, false);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(broken("the connection ended"));
            }
            let line = line.trim_end().to_lowercase();
            match line.split_once(": ") {
                None if line.is_empty() => break,
                None => status = line.split(' ').nth(1).and_then(|code| code.parse().ok()),
                Some(("content-length", bytes)) => length = bytes.parse().ok(),
                Some(("connection", "close")) => last = true,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length.ok_or_else(|| broken("no length"))?];
        self.stream.read_exact(&mut body).await?;
        let status = status.ok_or_else(|| broken("no status"))?;
        Ok(Answer { status, last })
    }
}
