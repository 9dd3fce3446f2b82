//! llm-bench as its users run it: real processes, real signals; embedded, and on real servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod amqp;
mod broker_tls;
mod command_line;
mod embedded;
mod healing;
mod hostile_text;
mod least_privilege;
mod load;
mod load_test;
mod mock_llm;
mod oracle;
mod process;
mod rankings;
mod real_servers;
mod rolling_restart;
mod secrets;
mod tcp_proxy;
