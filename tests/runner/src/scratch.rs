//! Where the servers and the tests keep their temporary files.

use std::{env, fs::Permissions, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// Linux's file system in memory. A database of a test is some hundred files; there they take a third of the time.
const IN_MEMORY: &str = "/dev/shm";
/// What the databases of a whole run take, and as much again.
const ROOM_BYTES: u64 = 5 << 30;

/// A directory that goes with the run: where `TMPDIR` says, else in memory where there is room, else on the disk.
pub(crate) fn directory() -> anyhow::Result<TempDir> {
    let in_memory = Path::new(IN_MEMORY);
    let parent = if env::var_os("TMPDIR").is_none() && has_room(in_memory) {
        in_memory.to_owned()
    } else {
        env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("llm-bench-tests-")
        // The servers run as users of their own.
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&parent)
        .with_context(|| format!("could not make a temporary directory in {}", parent.display()))
}

fn has_room(directory: &Path) -> bool {
    statvfs(directory)
        .is_ok_and(|system| system.blocks_available().saturating_mul(system.fragment_size()) >= ROOM_BYTES)
}
