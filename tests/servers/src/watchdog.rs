//! The process that cleans up after an owner who cannot.

use std::{
    env,
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::Error;

const SCRIPT: &str = include_str!("watchdog.sh");

/// Ends one server and removes its files when dropped, or when this process is gone.
///
/// A shell that waits for the end of its standard input. The parent-death signal of Linux would not do: it is tied to
/// the thread that started the server and does not survive a change of user.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// Never written to: that it is open says that the owner lives. The standard library opens it close-on-exec, so
    /// that no other child of this process holds it.
    alive: Option<ChildStdin>,
}

impl Watchdog {
    /// Watches over the server that is going to run in `home`, with its data in `data` where that is elsewhere.
    /// `quickly` is the name of the signal that makes it end at once. `lock` is held until the server is gone, which
    /// is later than the end of an owner that was killed.
    pub(crate) fn over(
        home: &Path,
        data: Option<&Path>,
        quickly: &str,
        lock: Option<File>,
    ) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "test-servers-watchdog"])
            .arg(home)
            .arg(as_pattern(home))
            .arg(data.map(as_pattern).unwrap_or_default())
            .arg(quickly)
            .env_clear()
            .env(
                "PATH",
                env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(lock.map_or_else(Stdio::null, Stdio::from)) // only to hold it: nothing is printed
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
        // Who killed the watchdog has taken over its duty; there is nothing to do about it here.
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
