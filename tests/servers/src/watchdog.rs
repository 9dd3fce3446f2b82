//! The process that ends a server when its owner has ended.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::Error;

const SCRIPT: &str = include_str!("watchdog.sh");

/// Ends one server and removes its files when it is dropped or this process has ended.
///
/// It is a shell that waits for the end of its standard input. Linux's parent-death signal does not suffice: it is bound to the
/// thread that started the server and is lost with a change of user.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// The pipe to the shell. It is open as long as the owner lives; nothing is written to it. The standard library opens it
    /// close-on-exec, so that no other child process inherits it.
    alive: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts the watchdog of the server that will run in `home`, with its data in `data` where that is elsewhere. `stop_signal` is
    /// the name of the signal that ends the server at once. The watchdog holds `lock` until the server has ended, also where the
    /// owner is killed before.
    pub(crate) fn over(
        home: &Path,
        data: Option<&Path>,
        stop_signal: &str,
        lock: Option<File>,
    ) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "test-servers-watchdog"])
            .arg(home)
            .arg(as_pattern(home))
            .arg(data.map(as_pattern).unwrap_or_default())
            .arg(stop_signal)
            .env_clear()
            .env(
                "PATH",
                env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(lock.map_or_else(Stdio::null, Stdio::from)) // only to hold the lock: the shell prints nothing
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start the watchdog's shell"))?;
        let alive = shell.stdin.take();
        Ok(Self { shell, alive })
    }
}

impl Drop for Watchdog {
    /// Blocks until the server is gone, usually some tens of milliseconds.
    fn drop(&mut self) {
        drop(self.alive.take());
        // Fails where the watchdog was killed.
        let _ = self.shell.wait();
    }
}

/// `path` as a pattern of find(1) that matches only itself.
fn as_pattern(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .flat_map(|character| {
            matches!(character, '*' | '?' | '[' | ']' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([character])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_only_the_path_itself() {
        assert_eq!(
            as_pattern(Path::new("/tmp/a[1]*?\\b")),
            "/tmp/a\\[1\\]\\*\\?\\\\b"
        );
        assert_eq!(as_pattern(Path::new("/tmp/plain-name.1")), "/tmp/plain-name.1");
    }
}
