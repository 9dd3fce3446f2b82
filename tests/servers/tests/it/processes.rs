//! The processes of a server by `/proc`, independently of the code under test.

use std::{
    fs,
    path::{Path, PathBuf},
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
