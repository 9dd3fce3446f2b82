//! A private RabbitMQ node and its port mapper (epmd).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    // Not tokio's clock: a test that pauses it must not affect the attempts.
    time::Instant,
};

use test_patience::patience;
use tokio::net::TcpStream;

use super::{RabbitMqOptions, SERVER, USER, probe};
use crate::{
    Error,
    command::run_to_end,
    installed_programs::{epmd_program, rabbitmq_programs},
    ports::{free_port, free_port_preferring},
    process_set::ProcessSet,
    random::random_hex,
    server_home::ServerHome,
    server_process::ServerProcess,
    server_user::ServerUser,
};

/// All nodes have the same name, because each has its own port mapper.
const NODE_NAME: &str = "rabbit@localhost";

/// The exit status of `rabbitmqctl` where the node does not answer: `EX_UNAVAILABLE` of sysexits.h.
const UNREACHABLE: i32 = 69;

/// Dropped in the order of the fields: first the watchdog ends the processes, then they are reaped.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) home: ServerHome,
    pub(super) process: ServerProcess,
    /// Started before the node, which would otherwise start a port mapper as a daemon that outlives it.
    port_mapper: ServerProcess,
    programs: PathBuf,
    pub(super) ports: Ports,
    pub(super) password: String,
    working_directory: PathBuf,
    command_line_directory: PathBuf,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) management: Option<u16>,
    distribution: u16,
    port_mapper: u16,
}

impl Node {
    pub(super) async fn start(options: RabbitMqOptions) -> Result<Self, Error> {
        let programs = rabbitmq_programs()?;
        let epmd = epmd_program()?;
        let user = ServerUser::for_server(SERVER, &["rabbitmq", "nobody"])?;
        let home = ServerHome::create(user, options.directory.as_deref(), "KILL")?;
        let ports = Ports::find(&options)?;
        let (password, _) = home.password()?;
        write_configuration(&home, ports, &password, &options)?;

        let working_directory = home.make_directory("node")?;
        let command_line_directory = home.make_directory("command-line")?;
        let port_mapper_directory = home.make_directory("port-mapper")?;
        let processes_in = |directory: &Path| ProcessSet::in_directory(directory.to_owned());
        let process = ServerProcess::new(SERVER, home.log(), processes_in(&working_directory));
        let port_mapper = ServerProcess::new("epmd", home.log(), processes_in(&port_mapper_directory));
        let node = Self {
            home,
            process,
            port_mapper,
            programs,
            ports,
            password,
            working_directory,
            command_line_directory,
        };
        node.launch_port_mapper(&epmd, &port_mapper_directory).await?;
        node.launch().await?;
        Ok(node)
    }

    pub(super) async fn launch(&self) -> Result<(), Error> {
        self.process
            .launch(self.command("rabbitmq-server", &self.working_directory))?;
        self.process
            .wait_until("starting", || {
                probe::logs_in(self.ports.amqp, USER, &self.password)
            })
            .await
    }

    pub(super) async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, Error> {
        let began = Instant::now();
        loop {
            let mut command = self.command("rabbitmqctl", &self.command_line_directory);
            command.arg("--quiet").args(arguments);
            let done = run_to_end(command, format!("rabbitmqctl {}", arguments.join(" "))).await;
            match done {
                // On a busy machine the node may be too slow for `rabbitmqctl`, which waits only some seconds.
                Err(Error::Command { status, .. })
                    if status.code() == Some(UNREACHABLE) && began.elapsed() < patience() => {}
                done => return done,
            }
        }
    }

    /// Creates what the definitions (JSON) list.
    pub(super) async fn import(&self, definitions: &str) -> Result<(), Error> {
        let file = self
            .home
            .write_file(&format!("{}.json", random_hex::<8>()?), definitions)?;
        self.rabbitmqctl(&["import_definitions", &file.to_string_lossy()])
            .await?;
        fs::remove_file(&file).map_err(Error::io("remove the definitions"))
    }

    /// The administrator's URL of the virtual host `/`.
    pub(super) fn url(&self) -> String {
        format!(
            "amqp://{USER}:{}@127.0.0.1:{}/%2f",
            self.password, self.ports.amqp
        )
    }

    pub(super) fn management_url(&self) -> Option<String> {
        let port = self.ports.management?;
        Some(format!("http://{USER}:{}@127.0.0.1:{port}/", self.password))
    }

    async fn launch_port_mapper(&self, epmd: &Path, working_directory: &Path) -> Result<(), Error> {
        let port = self.ports.port_mapper;
        let mut command = self.home.command(epmd, working_directory);
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        self.port_mapper.launch(command)?;
        self.port_mapper
            .wait_until("starting", || accepts_connections(port))
            .await
    }

    /// A command that runs one of RabbitMQ's scripts for this node, without the machine's RabbitMQ settings.
    fn command(&self, script: &str, working_directory: &Path) -> Command {
        let mut command = self.home.command(&self.programs.join(script), working_directory);
        let home = |name: &str| self.home.path(name);
        command
            .env("RABBITMQ_NODENAME", NODE_NAME)
            .env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("ERL_EPMD_PORT", self.ports.port_mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", self.home.data())
            .env("RABBITMQ_LOG_BASE", home("log"))
            .env("RABBITMQ_LOGS", "-") // to our log
            .env("RABBITMQ_PID_FILE", home("pid"))
            .env("RABBITMQ_CONFIG_FILE", home("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", home("no-conf.d"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", home("no-advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", home("rabbitmq-env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home("enabled_plugins"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }
}

async fn accepts_connections(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

impl Ports {
    fn find(options: &RabbitMqOptions) -> Result<Self, Error> {
        let management = options
            .management
            .then(|| free_port_preferring(options.preferred_management_port));
        Ok(Self {
            amqp: free_port_preferring(options.preferred_port)?,
            management: management.transpose()?,
            distribution: free_port()?,
            port_mapper: free_port()?,
        })
    }
}

fn write_configuration(
    home: &ServerHome,
    ports: Ports,
    password: &str,
    options: &RabbitMqOptions,
) -> Result<(), Error> {
    let mut lines = vec![
        format!("listeners.tcp.local = 127.0.0.1:{}", ports.amqp),
        format!("default_user = {USER}"),
        format!("default_pass = {password}"),
        "default_user_tags.administrator = true".to_owned(),
        // The default of 10 s is too short on a machine that starts other servers at the same time.
        format!("handshake_timeout = {}", patience().as_millis()),
    ];
    if let Some(port) = ports.management {
        lines.push("management.tcp.ip = 127.0.0.1".to_owned());
        lines.push(format!("management.tcp.port = {port}"));
    }
    lines.extend(options.settings.iter().cloned());
    home.write_file("rabbitmq.conf", &(lines.join("\n") + "\n"))?;
    let plugins = if options.management {
        "[rabbitmq_management].\n"
    } else {
        "[].\n"
    };
    home.write_file("enabled_plugins", plugins)?;
    home.write_file("rabbitmq-env.conf", "")?;
    Ok(())
}
