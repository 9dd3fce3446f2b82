use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::{Arc, mpsc as thread_channel},
    thread::{self, JoinHandle},
};

use precise_time::Timer;
use tokio::{
    runtime,
    sync::mpsc,
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Settings, Stats,
    accept::{CHANNEL_CAPACITY, accept_all, listen},
    connection::Connection,
    pacer::Pacer,
    server_state::ServerState,
};

/// A running mock server. It stops when it is dropped.
#[derive(Debug)]
pub struct MockLlm {
    state: Arc<ServerState>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl MockLlm {
    /// Listens and serves on threads of its own, and returns when it accepts connections. May be called inside or outside of a runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when a setting is wrong; otherwise the operating system's error about the address, a thread or a timer.
    pub fn start(settings: Settings) -> io::Result<Self> {
        settings.check()?;
        let listener = listen(settings.address)?;
        let cores = settings.cores;
        let mut server = Self {
            state: Arc::new(ServerState::new(settings, listener.local_addr()?)),
            stop: CancellationToken::new(),
            threads: Vec::new(),
        };
        let (ready, all_ready) = thread_channel::sync_channel(cores);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..cores).map(|_| mpsc::channel(CHANNEL_CAPACITY)).unzip();
        let mut acceptor = Some((listener, senders));
        for (core, connections) in receivers.into_iter().enumerate() {
            let connections = Connections {
                acceptor: acceptor.take(),
                accepted: connections,
            };
            let (state, stop) = (Arc::clone(&server.state), server.stop.clone());
            let ready = ready.clone();
            let thread = thread::Builder::new().name(format!("mock-llm-{core}"));
            let thread = thread.spawn(move || run_core(state, core, connections, &stop, &ready))?;
            server.threads.push(thread);
        }
        drop(ready);
        for _ in 0..cores {
            let is_ready = all_ready.recv();
            is_ready.map_err(|_ended| io::Error::other("a core ended before it was ready"))??;
        }
        Ok(server)
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.state.address
    }

    /// The base URL for OpenAI's clients: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// The statistics since its start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Closes all connections and ends its threads. Returns the final statistics.
    ///
    /// # Errors
    ///
    /// The error that made a core end early.
    ///
    /// # Panics
    ///
    /// When one of its threads has panicked.
    pub fn shutdown(mut self) -> io::Result<Stats> {
        for ended in self.join() {
            match ended {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(self.stats())
    }

    fn join(&mut self) -> Vec<thread::Result<io::Result<()>>> {
        self.stop.cancel();
        self.threads.drain(..).map(JoinHandle::join).collect()
    }
}

impl Drop for MockLlm {
    fn drop(&mut self) {
        self.join();
    }
}

/// The connections of one core.
struct Connections {
    accepted: mpsc::Receiver<TcpStream>,
    /// The first core accepts the connections of all cores.
    acceptor: Option<(TcpListener, Vec<mpsc::Sender<TcpStream>>)>,
}

/// Reports once whether a core is ready for connections.
type Ready = thread_channel::SyncSender<io::Result<()>>;

fn run_core(
    state: Arc<ServerState>,
    core: usize,
    connections: Connections,
    stop: &CancellationToken,
    ready: &Ready,
) -> io::Result<()> {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Fails where `start` has returned already with another core's error.
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let pacer = Pacer::new(state, core);
    LocalSet::new().block_on(&runtime, serve(pacer, connections, stop, ready))
}

async fn serve(
    pacer: Rc<Pacer>,
    connections: Connections,
    stop: &CancellationToken,
    ready: &Ready,
) -> io::Result<()> {
    let Connections {
        mut accepted,
        acceptor,
    } = connections;
    let mut tasks = JoinSet::new();
    let prepared = Timer::new().and_then(|timer| {
        if let Some((listener, cores)) = acceptor {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let pacer = Rc::clone(&pacer);
            let count_error = move || pacer.counters().stats.accept_errors += 1;
            tasks.spawn_local(accept_all(listener, cores, count_error));
        }
        Ok(timer)
    });
    let timer = match prepared {
        Ok(timer) => timer,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    let paced = Rc::clone(&pacer);
    let mut pacing = tokio::task::spawn_local(async move { paced.run(timer).await });
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            ended = &mut pacing => break ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(panic) = ended {
                    break Err(io::Error::other(panic));
                }
            }
            socket = accepted.recv() => {
                let Some(socket) = socket else { break Ok(()) };
                match tokio::net::TcpStream::from_std(socket) {
                    Ok(socket) => {
                        tasks.spawn_local(Connection::new(Rc::clone(&pacer), socket).run());
                    }
                    Err(_error) => pacer.counters().stats.accept_errors += 1,
                }
            }
        }
    };
    pacing.abort();
    tasks.shutdown().await;
    ended
}
