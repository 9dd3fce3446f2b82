//! The directory of the temporary files of servers and tests.

use std::{
    env,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::sys::statvfs::{FsFlags, statvfs};
use tempfile::TempDir;

/// Linux's file system in memory. A test's database has some hundred files; in memory they take a third of the time.
const IN_MEMORY: &str = "/dev/shm";
/// Twice what the files of a whole run take.
const ROOM_BYTES: u64 = 6 << 30;
const PREFIX: &str = "llm-bench-tests-";
/// The name of the file that the run of a directory locks.
const LOCK: &str = "lock";

/// A directory that is removed at the end of the run.
pub(crate) struct TemporaryDirectory {
    _lock: File,
    directory: TempDir,
}

impl TemporaryDirectory {
    /// Creates it in `TMPDIR` where that is set, else in memory where there is room, else on the disk. Removes the directories of
    /// earlier runs that were killed.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let in_memory = Path::new(IN_MEMORY);
        let parent = if env::var_os("TMPDIR").is_none() && has_room(in_memory) {
            in_memory.to_owned()
        } else {
            env::temp_dir()
        };
        remove_abandoned(&parent);
        Self::create_in(&parent)
            .with_context(|| format!("could not make a temporary directory in {}", parent.display()))
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            // Readable for the users that the servers run as.
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            _lock: lock,
            directory,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories of killed runs: their locks are free.
fn remove_abandoned(parent: &Path) {
    for directory in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        let is_ours = directory.file_name().to_string_lossy().starts_with(PREFIX);
        let path = directory.path();
        if is_ours && File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            // Fails for another user's directory, which does no harm.
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whether the directory has room for the files of a run, allows programs to be executed, and the memory is available.
fn has_room(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|system| {
        let free = system.blocks_available().saturating_mul(system.fragment_size());
        free >= ROOM_BYTES && !system.flags().contains(FsFlags::ST_NOEXEC)
    }) && memory_available().is_some_and(|bytes| bytes >= ROOM_BYTES)
}

/// The available memory of the machine, or of this process's control group where that is less.
///
/// Source: proc_meminfo(5), and the kernel's documentation of cgroup v2 (`memory.max`, `memory.current`).
fn memory_available() -> Option<u64> {
    const KIB: u64 = 1024;
    let of_machine = fs::read_to_string("/proc/meminfo")
        .ok()?
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .map(|kib: u64| kib * KIB)?;
    let of_group = |name: &str| -> Option<u64> {
        let path: PathBuf = ["/sys/fs/cgroup", name].iter().collect();
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let left_to_group = of_group("memory.max")
        .zip(of_group("memory.current"))
        .map(|(limit, taken)| limit.saturating_sub(taken));
    Some(left_to_group.map_or(of_machine, |left| left.min(of_machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let in_use = TemporaryDirectory::create_in(parent.path()).unwrap();
        let abandoned = parent.path().join("llm-bench-tests-abandoned");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), "").unwrap();
        let other = parent.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(LOCK), "").unwrap();
        remove_abandoned(parent.path());
        assert!(in_use.path().exists() && other.exists() && !abandoned.exists());
    }
}
