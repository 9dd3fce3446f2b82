//! Runs a server's own tools (`initdb`, `rabbitmqctl`).

use std::{io, process::Command};

use crate::Error;

/// Runs `command` and returns its output. Where it fails, the error contains the output and the name `shown`.
pub(crate) async fn run_to_end(mut command: Command, shown: String) -> Result<String, Error> {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(Error::io(format!("run {shown}")))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let printed = printed + &String::from_utf8_lossy(&output.stderr);
    Err(Error::Command {
        command: shown,
        status: output.status,
        output: printed.trim().to_owned(),
    })
}
