use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, mpsc as thread_channel},
    thread::{self, JoinHandle},
};

use precise_time::Timer;
use tokio::{
    runtime,
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Settings, Stats,
    accept::{ConnectionSource, listen},
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
        let sources = ConnectionSource::for_cores(listener, cores);
        for (core, source) in sources.into_iter().enumerate() {
            let (state, stop) = (Arc::clone(&server.state), server.stop.clone());
            let ready = ready.clone();
            let thread = thread::Builder::new().name(format!("mock-llm-{core}"));
            let thread = thread.spawn(move || run_core(state, core, source, &stop, &ready))?;
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

/// Reports once whether a core accepts connections.
type Ready = thread_channel::SyncSender<io::Result<()>>;

fn run_core(
    state: Arc<ServerState>,
    core: usize,
    source: ConnectionSource<TcpListener>,
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
    LocalSet::new().block_on(&runtime, serve(pacer, source, stop, ready))
}

async fn serve(
    pacer: Rc<Pacer>,
    source: ConnectionSource<TcpListener>,
    stop: &CancellationToken,
    ready: &Ready,
) -> io::Result<()> {
    let prepared = Timer::new().and_then(|timer| Ok((timer, source.register()?)));
    let (timer, mut source) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    let mut connections = JoinSet::new();
    let paced = Rc::clone(&pacer);
    let mut pacing = tokio::task::spawn_local(async move { paced.run(timer).await });
    let count_error = || pacer.counters().stats.accept_errors += 1;
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            ended = &mut pacing => break ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(panic) = ended {
                    break Err(io::Error::other(panic));
                }
            }
            socket = source.next(count_error) => {
                let Some(socket) = socket else { break Ok(()) };
                connections.spawn_local(Connection::new(Rc::clone(&pacer), socket).run());
            }
        }
    };
    pacing.abort();
    connections.shutdown().await;
    ended
}
