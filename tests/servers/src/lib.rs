//! Private PostgreSQL and RabbitMQ servers for tests, benchmarks and development.
//!
//! [`PostgresServer::start`] and [`RabbitMqServer::start`] run the machine's server programs on free loopback ports,
//! as an unprivileged user, on data of their own, so that a test may stop, freeze, kill and restart them.
//! [`shared_postgres`] and [`shared_rabbitmq`] give one server per process to the tests that only use it, and use
//! `DATABASE_URL` and `AMQP_URL` instead where these are set.
//!
//! Every server has a watchdog process with a pipe from the process that started it. The pipe closes by `Drop`, by the end of the
//! process or by `kill -9`. Then the watchdog ends the server's processes and removes its files.
//!
//! Private servers need Linux (`/proc`). Set the two URLs on other systems.

mod command;
mod error;
mod installed_programs;
mod ports;
mod postgres;
mod process_set;
mod rabbitmq;
mod random;
mod server_home;
mod server_process;
mod server_user;
mod shared;
mod watchdog;

pub use error::{Error, INSTALL_COMMAND};
pub use ports::free_port;
pub use postgres::{PostgresOptions, PostgresServer};
pub use rabbitmq::{RabbitMqOptions, RabbitMqServer};
pub use shared::{shared_postgres, shared_rabbitmq};
