//! Runs cargo for the tests.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{self, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use cargo_metadata::{Artifact, Message, TargetKind};

use crate::child_processes::ChildProcesses;

/// The compiled test programs of the selection.
pub(crate) struct Compiled {
    /// The names of the programs by the names of their files.
    pub(crate) names: BTreeMap<String, String>,
    /// Whether a library is selected. Only the documentation of a library has examples to test.
    pub(crate) has_library: bool,
}

/// cargo with the selection of packages and tests, and with the variables that the tests read.
pub(crate) struct Cargo {
    program: OsString,
    /// Options that `cargo test` and `cargo nextest run` both know.
    selection: Vec<String>,
    variables: Vec<(&'static str, String)>,
    children: ChildProcesses,
}

impl Cargo {
    pub(crate) fn new(selection: Vec<String>, children: ChildProcesses) -> Self {
        Self {
            program: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            selection,
            variables: Vec::new(),
            children,
        }
    }

    pub(crate) fn with_variables(self, variables: Vec<(&'static str, String)>) -> Self {
        Self { variables, ..self }
    }

    /// The target directory of cargo.
    pub(crate) fn target_directory() -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
    }

    /// Whether to use cargo-nextest: it is installed in a version that understands `.config/nextest.toml`, and
    /// `TEST_RUNNER=cargo` is not set.
    pub(crate) fn has_nextest(&self) -> bool {
        let unwanted = env::var_os("TEST_RUNNER").is_some_and(|wanted| wanted == "cargo");
        !unwanted
            && Command::new(&self.program)
                .args(["nextest", "show-config", "version"])
                .output()
                .is_ok_and(|answer| answer.status.success())
    }

    /// Whether the selection includes the examples in the documentation. A selection of targets, such as `--lib` or
    /// `--test it`, does not.
    pub(crate) fn selects_documentation(&self) -> bool {
        let targets = [
            "--lib",
            "--bin",
            "--bins",
            "--test",
            "--tests",
            "--example",
            "--examples",
            "--bench",
            "--benches",
            "--all-targets",
        ];
        !self.selection.iter().any(|argument| {
            let option = argument.split('=').next().unwrap_or_default();
            targets.contains(&option)
        })
    }

    /// Compiles the tests, with cargo's own messages.
    pub(crate) fn compile(&self) -> anyhow::Result<Compiled> {
        let mut command = self.command(&["test", "--no-run", "--message-format", "json-render-diagnostics"]);
        let mut child = self
            .spawn(command.stdout(Stdio::piped()))
            .with_context(|| format!("could not run {}", self.program.display()))?;
        let messages = child.stdout.take().context("cargo's messages")?;
        let mut compiled = Compiled {
            names: BTreeMap::new(),
            has_library: false,
        };
        for message in Message::parse_stream(BufReader::new(messages)) {
            if let Message::CompilerArtifact(artifact) = message?
                && artifact.profile.test
                && let Some(file) = artifact.executable.as_deref().and_then(|path| path.file_name())
            {
                compiled.has_library |= artifact.target.kind.contains(&TargetKind::Lib);
                compiled.names.insert(file.to_owned(), program_name(&artifact));
            }
        }
        ensure!(child.wait()?.success(), "the tests do not compile");
        Ok(compiled)
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.children.spawn(command)
    }

    /// `cargo WORDS… SELECTION…`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .arg("--locked")
            .args(&self.selection)
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The name that nextest uses: `package` for a library, `package::bin/target` for a program, else `package::target`.
fn program_name(artifact: &Artifact) -> String {
    let (package, target) = (package_name(&artifact.package_id.repr), &artifact.target.name);
    let is = |kind| artifact.target.kind.contains(&kind);
    if is(TargetKind::Lib) {
        package.to_owned()
    } else if is(TargetKind::Bin) {
        format!("{package}::bin/{target}")
    } else {
        format!("{package}::{target}")
    }
}

/// Source: cargo's package id specifications, `path+file:///folder/name#version` or `path+file:///folder#name@version`.
fn package_name(id: &str) -> &str {
    let (folder, package) = id.rsplit_once('#').unwrap_or((id, ""));
    let last_folder = folder.rsplit('/').next().unwrap_or(folder);
    package.split_once('@').map_or(last_folder, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_the_name_that_its_manifest_says() {
        assert_eq!(package_name("path+file:///work/outbox#0.1.0"), "outbox");
        assert_eq!(
            package_name("path+file:///work/storage/postgres#storage-postgres@0.1.0"),
            "storage-postgres"
        );
    }
}
