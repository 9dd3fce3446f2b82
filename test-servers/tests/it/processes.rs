//! What the operating system says about a server, independently of the harness.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The processes whose working directory is `root` or below, as `(pid, /proc/<pid>)`.
pub(crate) fn running_below(root: &Path) -> Vec<(i32, PathBuf)> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, process)| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root)))
        .collect()
}

/// Waits for `condition`, at most `deadline`.
pub(crate) async fn eventually(what: &str, deadline: Duration, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
