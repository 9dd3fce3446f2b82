use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc as thread_channel,
    },
    thread::{self, JoinHandle},
};

use precise_time::{MonotonicTime, Timer};
use tokio::{
    runtime,
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Settings, Stats,
    connection::Connection,
    deadlines::Stalls,
    engine::Engine,
    intake::{Intake, Source, listen},
    stats::Counters,
};

/// A mock server that is running. It stops when it is dropped.
#[derive(Debug)]
pub struct MockLlm {
    shared: Arc<Shared>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What all cores have in common.
pub(crate) struct Shared {
    pub settings: Settings,
    pub address: SocketAddr,
    /// Unix time of the start, in s.
    pub created: u64,
    pub stalls: Option<Stalls>,
    pub slots: Option<Arc<Semaphore>>,
    requests: AtomicU64,
    counters: Vec<Mutex<Counters>>,
}

impl MockLlm {
    /// Listens and serves on threads of its own. May be called inside a runtime and without one; returns when connections are
    /// accepted.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where a setting is wrong; otherwise what the operating system says to the address, threads or timers.
    pub fn start(settings: Settings) -> io::Result<Self> {
        settings.check()?;
        let listener = listen(settings.address)?;
        let shared = Arc::new(Shared::new(settings, listener.local_addr()?));
        let mut server = Self {
            shared,
            stop: CancellationToken::new(),
            threads: Vec::new(),
        };
        let (ready, all_ready) = thread_channel::sync_channel(server.shared.counters.len());
        for (core, intake) in Intake::of_cores(listener, server.shared.counters.len())
            .into_iter()
            .enumerate()
        {
            let (shared, stop) = (Arc::clone(&server.shared), server.stop.clone());
            let ready = ready.clone();
            let thread = thread::Builder::new().name(format!("mock-llm-{core}"));
            server
                .threads
                .push(thread.spawn(move || run_core(shared, core, intake, &stop, &ready))?);
        }
        drop(ready);
        for _ in 0..server.threads.len() {
            let is_ready = all_ready.recv();
            is_ready.map_err(|_ended| io::Error::other("a core ended before it was ready"))??;
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Where OpenAI's clients find it: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr())
    }

    /// What it has done up to now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Cuts all connections and ends its threads. Returns the last statistics.
    ///
    /// # Errors
    ///
    /// What made a core end early.
    ///
    /// # Panics
    ///
    /// Where one of its threads has panicked.
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

impl Shared {
    fn new(settings: Settings, address: SocketAddr) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "answers state when they were created; nothing depends on it"
        )]
        let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            address,
            created: created.map_or(0, |since| since.as_secs()),
            stalls: settings
                .stall
                .map(|stall| Stalls::new(stall, MonotonicTime::now())),
            slots: settings
                .slots
                .map(|slots| Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)))),
            requests: AtomicU64::new(0),
            counters: (0..settings.cores).map(|_| Mutex::new(Counters::new())).collect(),
            settings,
        }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn counters(&self, core: usize) -> MutexGuard<'_, Counters> {
        // Numbers are never half changed in a way that matters.
        self.counters[core].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> Stats {
        Counters::sum((0..self.counters.len()).map(|core| self.counters(core)))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

type Ready = thread_channel::SyncSender<io::Result<()>>;

fn run_core(
    shared: Arc<Shared>,
    core: usize,
    intake: Intake,
    stop: &CancellationToken,
    ready: &Ready,
) -> io::Result<()> {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever started it has gone, or hears of it.
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let engine = Engine::new(shared, core);
    LocalSet::new().block_on(&runtime, serve(engine, intake, stop, ready))
}

async fn serve(
    engine: Rc<Engine>,
    intake: Intake,
    stop: &CancellationToken,
    ready: &Ready,
) -> io::Result<()> {
    let prepared = Timer::new().and_then(|timer| Ok((timer, Source::new(intake)?)));
    let (timer, mut source) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    let _ = ready.send(Ok(()));
    let mut connections = JoinSet::new();
    let pacer = Rc::clone(&engine);
    let mut pacer = tokio::task::spawn_local(async move { pacer.pace(timer).await });
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            ended = &mut pacer => break ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(panic) = ended {
                    break Err(io::Error::other(panic));
                }
            }
            socket = source.next(&engine) => {
                let Some(socket) = socket else { break Ok(()) };
                connections.spawn_local(Connection::new(Rc::clone(&engine), socket).run());
            }
        }
    };
    pacer.abort();
    connections.shutdown().await;
    ended
}
