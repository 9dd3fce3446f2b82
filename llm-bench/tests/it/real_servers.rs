use std::{collections::BTreeMap, process::Command};

use futures::TryStreamExt;
use sqlx::{Connection as _, PgConnection, Row as _};
use test_patience::until;
use test_servers::{PostgresServer, RabbitMqServer, shared_postgres, shared_rabbitmq};

use crate::{
    amqp::{DEAD_QUEUE, channel, publish_to_queue, waiting},
    oracle::exact_mean,
    process::{Process, free_address, program, run},
    rankings::Api,
};

/// Both services as processes of their own, on one database and one broker.
pub(crate) struct Deployment {
    pub(crate) database: String,
    pub(crate) amqp: String,
    pub(crate) api: Api,
    pub(crate) benchmark: Option<Process>,
    simulation: Option<Process>,
    simulation_settings: Vec<(&'static str, &'static str)>,
}

pub(crate) const KEY: &str = "a-bootstrap-key-of-the-tests";

impl Deployment {
    /// Starts neither service.
    pub(crate) fn on(
        database: String,
        amqp: String,
        simulation_settings: &[(&'static str, &'static str)],
    ) -> Self {
        Self {
            database,
            amqp,
            api: Api::with_key(&format!("http://{}", free_address()), KEY),
            benchmark: None,
            simulation: None,
            simulation_settings: simulation_settings.to_vec(),
        }
    }

    pub(crate) fn start(
        database: String,
        amqp: String,
        simulation_settings: &[(&'static str, &'static str)],
    ) -> Self {
        let mut deployment = Self::on(database, amqp, simulation_settings);
        deployment.start_benchmark(&[]);
        deployment.start_simulation();
        deployment
    }

    /// Starts the simulation alone: the test starts benchmark services itself.
    pub(crate) async fn without_benchmark(simulation_settings: &[(&'static str, &'static str)]) -> Self {
        let database = shared_postgres().await.create_database().await.unwrap();
        let amqp = shared_rabbitmq().await.create_vhost().await.unwrap();
        let mut deployment = Self::on(database, amqp, simulation_settings);
        deployment.start_simulation();
        deployment
    }

    pub(crate) async fn shared(simulation_settings: &[(&'static str, &'static str)]) -> Self {
        let database = shared_postgres().await.create_database().await.unwrap();
        let amqp = shared_rabbitmq().await.create_vhost().await.unwrap();
        Self::start(database, amqp, simulation_settings)
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        command
            .env("DATABASE_URL", &self.database)
            .env("AMQP_URL", &self.amqp);
        command
    }

    pub(crate) fn start_benchmark(&mut self, settings: &[(&str, &str)]) {
        let address = self.api.url.trim_start_matches("http://");
        self.benchmark = Some(self.benchmark_at(address, settings));
    }

    /// Starts another benchmark service at this address.
    pub(crate) fn benchmark_at(&self, address: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = self.command("benchmark-service");
        command
            .env("HTTP_ADDR", address)
            .env("API_KEY", KEY)
            .envs(settings.iter().copied());
        Process::start(command)
    }

    pub(crate) fn start_simulation(&mut self) {
        let mut command = self.command("simulation-service");
        command
            .env("SIMULATION_HTTP_ADDR", free_address())
            .envs(self.simulation_settings.iter().copied());
        self.simulation = Some(Process::start(command));
    }

    pub(crate) async fn ranked(&self, query: &str, values: u64) {
        until(&format!("{values} values are ranked"), async || {
            self.api.values(query).await == values
        })
        .await;
    }

    /// The stored arrays by (metric, LLM), read in binary.
    pub(crate) async fn stored(&self) -> BTreeMap<(String, String), Vec<f64>> {
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        let mut rows = sqlx::query(
            "SELECT metrics.title, llms.name, batches.data_points FROM batches
             JOIN llms ON llms.id = batches.llm_id JOIN metrics ON metrics.id = batches.metric_id",
        )
        .fetch(&mut connection);
        let mut stored: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        while let Some(row) = rows.try_next().await.unwrap() {
            let values: Vec<f64> = row.get(2);
            stored.entry((row.get(0), row.get(1))).or_default().extend(values);
        }
        stored
    }

    /// Asserts that every stored value is counted once, and that the means are exact.
    pub(crate) async fn assert_exact(&self, query: &str) {
        let stored = self.stored().await;
        let all: u64 = stored.values().map(|values| values.len() as u64).sum();
        self.ranked(query, all).await;
        for (metric, rows) in self.api.rankings(query).await {
            for row in rows {
                let values = &stored[&(metric.clone(), row.llm.clone())];
                assert_eq!(
                    (row.n, row.mean),
                    (values.len() as u64, exact_mean(values)),
                    "{metric} {}",
                    row.llm
                );
            }
        }
    }

    pub(crate) fn stop_simulation(&mut self) {
        self.simulation.take().unwrap().stop();
    }
}

#[tokio::test]
async fn the_two_services_rank_exactly_what_the_database_holds() {
    let mut deployment =
        Deployment::shared(&[("SIMULATION_INTERVAL", "0.2"), ("NUM_DATA_POINTS", "500")]).await;
    until("some ticks are ranked", async || {
        deployment.api.values("").await >= 5 * 8_000
    })
    .await;
    deployment.stop_simulation();
    deployment.assert_exact("").await;
    deployment.benchmark.take().unwrap().stop();
}

#[tokio::test]
async fn reading_needs_a_key_and_ready_names_every_component() {
    let deployment = Deployment::shared(&[]).await;
    deployment.ranked("", 16_000).await;
    let anonymous = Api::open(&deployment.api.url);
    assert_eq!(anonymous.get("/api/v1/rankings/ttft").await.0, 401);
    // Its link for publishing may come after the one for consuming.
    until("ready", async || anonymous.get("/readyz").await.0 == 200).await;
}

#[tokio::test]
async fn the_older_producers_array_counts_once_when_it_is_published_twice() {
    let deployment = Deployment::shared(&[]).await;
    deployment.ranked("", 16_000).await;
    let body = br#"[
        {"llm_name": "GPT-4o", "metric": "TTFT", "values": [0.1, 0.2, 0.3], "timestamp": "2024-09-27T11:29:13.291565"},
        {"llm_name": "Brand new", "metric": "tps", "values": [50.5], "timestamp": "2024-09-27T11:29:13.291565"}
    ]"#;
    let broker = channel(&deployment.amqp).await;
    publish_to_queue(&broker, body).await;
    publish_to_queue(&broker, body).await;
    deployment.ranked("source=imported", 4).await;
    // A later message is counted too, so both copies have been dealt with.
    let later =
        br#"{"llm_name": "GPT-4o", "metric": "rps", "values": [1], "timestamp": "2024-09-27T11:29:14Z"}"#;
    publish_to_queue(&broker, later).await;
    deployment.ranked("source=imported", 5).await;
    let rankings = deployment.api.rankings("source=imported").await;
    assert_eq!(rankings["ttft"][0].mean, exact_mean(&[0.1, 0.2, 0.3]));
    let (_, llms) = deployment.api.get("/api/v1/llms").await;
    let new = llms["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|llm| llm["name"] == "Brand new")
        .unwrap();
    assert_eq!(new["creator"], "unknown");
}

#[tokio::test]
async fn poison_goes_to_the_dead_letters_with_its_reason_and_the_next_good_one_is_served() {
    let deployment = Deployment::shared(&[]).await;
    deployment.ranked("", 16_000).await;
    let broker = channel(&deployment.amqp).await;
    for poison in [
        r#"{"llm_name": "GPT-4o", "metric": "ttft", "values": [], "timestamp": "2024-09-27T11:29:13Z"}"#,
        r#"{"llm_name": "GPT-4o", "metric": "mood", "values": [1], "timestamp": "2024-09-27T11:29:13Z"}"#,
        "[]",
        "not JSON at all",
    ] {
        publish_to_queue(&broker, poison.as_bytes()).await;
    }
    let good =
        br#"{"llm_name": "GPT-4o", "metric": "ttft", "values": [1], "timestamp": "2024-09-27T11:29:13Z"}"#;
    publish_to_queue(&broker, good).await;
    deployment.ranked("source=imported", 1).await;

    let dead_letters = |arguments: &[&str]| {
        let mut command = deployment.command("llm-bench");
        command.arg("dead-letters").args(arguments);
        let done = run(command);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    until("four dead letters", async || {
        waiting(&broker, DEAD_QUEUE).await == 4
    })
    .await;
    let list = dead_letters(&["list"]);
    for reason in [
        "values: found an empty array",
        "metric: found mood",
        "found an empty array, expected at least one batch",
    ] {
        assert!(list.replace('\n', " ").contains(reason), "{reason} in\n{list}");
    }
    assert!(dead_letters(&["replay", "--all"]).contains("replayed 4"));
    until("they are dead again", async || {
        waiting(&broker, DEAD_QUEUE).await == 4
    })
    .await;
    assert!(dead_letters(&["discard", "--all"]).contains("discarded 4"));
    assert!(dead_letters(&["list"]).contains("there are no dead letters"));
    assert_eq!(deployment.api.values("source=imported").await, 1);
}

#[tokio::test]
async fn killing_rabbitmq_and_postgresql_loses_nothing_and_doubles_nothing() {
    let (postgres, rabbitmq) = tokio::try_join!(PostgresServer::start(), RabbitMqServer::start()).unwrap();
    // Not so busy that the servers have no core to start on.
    let busy = [("SIMULATION_INTERVAL", "0.1"), ("NUM_DATA_POINTS", "50")];
    let database = postgres.create_database().await.unwrap();
    let mut deployment = Deployment::start(database, rabbitmq.amqp_url().to_owned(), &busy);
    until("values flow", async || deployment.api.values("").await > 0).await;
    // RabbitMQ 3.10.8 never revives a quorum queue that is killed within seconds of its first declaration; after an
    // orderly restart it does.
    rabbitmq.restart().await.unwrap();
    let counted = deployment.api.values("").await;
    until("values flow after a restart", async || {
        deployment.api.values("").await > counted
    })
    .await;

    rabbitmq.kill().await.unwrap();
    let before = stored_values(&deployment).await;
    until("batches are stored while the broker is away", async || {
        stored_values(&deployment).await > before
    })
    .await;
    rabbitmq.start_again().await.unwrap();
    let counted = deployment.api.values("").await;
    until("values flow again", async || {
        deployment.api.values("").await > counted
    })
    .await;

    postgres.kill().await.unwrap();
    let (status, _) = deployment.api.get("/api/v1/rankings/ttft").await;
    assert_eq!(status, 200, "rankings are served while the database is away");
    postgres.start_again().await.unwrap();
    let counted = deployment.api.values("").await;
    until("values flow once more", async || {
        deployment.api.values("").await > counted
    })
    .await;

    deployment.stop_simulation();
    deployment.assert_exact("").await;
    deployment.benchmark.take().unwrap().stop();
}

async fn stored_values(deployment: &Deployment) -> u64 {
    deployment
        .stored()
        .await
        .values()
        .map(|values| values.len() as u64)
        .sum()
}
