//! Processes made of the real core on simulated ports, and whoever starts them again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use benchmark_service::Consumer;
use broker::Broker;
use outbox::{Outbox, OutboxSettings, OutboxTelemetry};
use prometheus::Registry;
use service_runtime::lifecycle::{Lifecycle, ShutdownError};
use shared_types::Clock;
use storage::{Reconciliation, Storage};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Queue, SimulatedBroker},
    client::Client,
    database::{SimulatedDatabase, Store},
    sabotage::Sabotage,
    world::{Process, World},
};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An outbox with a client.
    Producer {
        client: usize,
    },
    Consumer,
    /// As `llm-bench up`.
    Both {
        client: usize,
    },
    Reconciler,
}

/// What outlives every process.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) clients: Vec<Arc<Client>>,
    pub(crate) settings: OutboxSettings,
    pub(crate) sabotage: Sabotage,
    pub(crate) lives: Arc<AtomicU64>,
}

/// A place for a process: started, and started again after every end.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) surroundings: Surroundings,
    pub(crate) role: Role,
    pub(crate) restart: Arc<Notify>,
    pub(crate) stop: CancellationToken,
}

/// Why a process ends.
enum End {
    Crash,
    Restart,
    Stop,
    /// A task panicked or failed.
    ByItself,
}

impl Slot {
    /// How late a supervisor starts a process again.
    const LONGEST_ABSENCE: Duration = Duration::from_secs(3);
    /// How late a broker notices that a connection is dead.
    const LONGEST_HEARTBEAT: Duration = Duration::from_secs(5);

    /// Keeps a process running until it is stopped.
    pub(crate) async fn keep_running(self) {
        loop {
            let process = self.next_process();
            let life = Lifecycle::new();
            // Held like a service's API holds it: the relay runs as long as somebody may submit.
            let _outbox = self.start(&process, &life);
            let end = tokio::select! {
                biased;
                () = process.died() => End::Crash,
                () = self.stop.cancelled() => End::Stop,
                () = self.restart.notified() => End::Restart,
                () = life.shutdown().cancelled_owned() => End::ByItself,
            };
            match end {
                End::Crash => self.clear_up_after(&process, &life),
                End::Restart => self.end(&process, &life).await,
                End::Stop => return self.end(&process, &life).await,
                End::ByItself => {
                    let name = &process.name;
                    process.world.violated(format!("a task of {name} crashed"));
                    return;
                }
            }
            let absence = self.random_duration(Self::LONGEST_ABSENCE);
            tokio::time::sleep(absence).await;
        }
    }

    fn next_process(&self) -> Arc<Process> {
        let Surroundings { world, lives, .. } = &self.surroundings;
        let number = lives.fetch_add(1, Ordering::Relaxed);
        Process::new(format!("{:?} #{number}", self.role), number, world)
    }

    /// Nothing of the process acts any more; sooner or later the broker learns of its end.
    fn clear_up_after(&self, process: &Arc<Process>, life: &Lifecycle) {
        life.end();
        let Surroundings {
            queue,
            world,
            sabotage,
            clients,
            ..
        } = self.surroundings.clone();
        if let Role::Producer { client } | Role::Both { client } = self.role
            && world.choose(|random, _| random.chance(100))
        {
            clients[client].gives_up();
        }
        let (late, number) = (self.random_duration(Self::LONGEST_HEARTBEAT), process.number);
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            queue.close_connection(Some(number), sabotage == Sabotage::BrokerForgetsUnsettled);
        });
    }

    /// What SIGTERM does.
    async fn end(&self, process: &Arc<Process>, life: &Lifecycle) {
        life.end();
        tokio::select! {
            biased;
            () = process.died() => return self.clear_up_after(process, life),
            ended = life.drained() => match ended {
                Ok(()) | Err(ShutdownError::Overdue(_)) => {}
                Err(error @ ShutdownError::Crashed(_)) => process.world.violated(format!("{}: {error}", process.name)),
            },
        }
        process.ended();
        self.surroundings
            .queue
            .close_connection(Some(process.number), false);
    }

    /// Starts the tasks of the role. Gives the outbox, where it has one.
    fn start(&self, process: &Arc<Process>, life: &Lifecycle) -> Option<Outbox> {
        process.world.note(format_args!("{} starts", process.name));
        match self.role {
            Role::Producer { client } => Some(self.start_outbox(client, process, life)),
            Role::Both { client } => {
                self.start_consumer(process, life);
                Some(self.start_outbox(client, process, life))
            }
            Role::Consumer => {
                self.start_consumer(process, life);
                None
            }
            Role::Reconciler => {
                life.spawn("reconciler", reconcile(self.database(process), life.shutdown()));
                None
            }
        }
    }

    fn start_outbox(&self, client: usize, process: &Arc<Process>, life: &Lifecycle) -> Outbox {
        let metrics = OutboxTelemetry::register(&Registry::new()).expect("a new registry");
        let outbox = Outbox::start(
            life,
            self.database(process),
            self.broker(process).publisher(),
            self.surroundings.settings,
            metrics,
        );
        let client = Arc::clone(&self.surroundings.clients[client]);
        let (submitting, shutdown) = (
            client.submit_all(Arc::clone(process), outbox.clone()),
            life.shutdown(),
        );
        life.spawn("client", async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = submitting => {}
            }
        });
        outbox
    }

    fn start_consumer(&self, process: &Arc<Process>, life: &Lifecycle) {
        let clock: Arc<dyn Clock> = Arc::clone(&self.surroundings.world) as Arc<dyn Clock>;
        let (database, broker) = (self.database(process), Arc::new(self.broker(process)));
        let consumer =
            Consumer::new(database, broker, clock, Arc::default(), &Registry::new()).expect("a new registry");
        life.spawn_fallible("consumer", consumer.run(life.shutdown()));
    }

    fn database(&self, process: &Arc<Process>) -> Arc<SimulatedDatabase> {
        Arc::new(SimulatedDatabase {
            process: Arc::clone(process),
            store: Arc::clone(&self.surroundings.store),
        })
    }

    fn broker(&self, process: &Arc<Process>) -> SimulatedBroker {
        SimulatedBroker {
            process: Arc::clone(process),
            queue: Arc::clone(&self.surroundings.queue),
            sabotage: self.surroundings.sabotage,
        }
    }

    fn random_duration(&self, longest: Duration) -> Duration {
        self.surroundings
            .world
            .choose(|random, _| random.duration(longest))
    }
}

/// Requeues what was lost after its confirmation.
async fn reconcile(database: Arc<SimulatedDatabase>, shutdown: CancellationToken) {
    const INTERVAL: Duration = Duration::from_secs(3);
    const GRACE: Duration = Duration::from_secs(10);
    const LIMIT: u32 = 4;
    loop {
        let step = async {
            tokio::time::sleep(INTERVAL).await;
            // The next one follows.
            let _ = database.requeue_uncounted(GRACE, LIMIT).await;
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = step => {}
        }
    }
}

/// The compiler's proof that a simulated database is everything that a service asks for.
const _: fn(Arc<SimulatedDatabase>) -> Arc<dyn Storage> = |database| database;
