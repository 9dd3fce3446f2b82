//! A small disk that can be filled and grown.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

const MIB: usize = 1024 * 1024;

/// A file system in memory, of a given size; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    mounted: TempDir,
}

impl SmallDisk {
    /// Mounts it. Fails without root.
    pub(crate) fn mount(mib: usize) -> anyhow::Result<Self> {
        let mounted = tempfile::Builder::new().prefix("llm-bench-disk-").tempdir()?;
        // The database's user needs access.
        fs::set_permissions(mounted.path(), Permissions::from_mode(0o755))?;
        let size = format!("size={mib}m,mode=0755");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], mounted.path())?;
        Ok(Self { mounted })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills the disk to the last byte and returns how many bytes that took. Space that others free meanwhile is filled at the
    /// next call.
    pub(crate) fn fill(&self) -> anyhow::Result<usize> {
        let mut ballast = File::options().append(true).create(true).open(self.ballast())?;
        let mut written = 0;
        for size in [MIB, 4096, 1] {
            let piece = vec![1; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => written += size,
                    Err(full) if full.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(written)
    }

    /// Changes the size of the disk.
    pub(crate) fn grow(&self, mib: usize) -> anyhow::Result<()> {
        let size = format!("remount,size={mib}m");
        mount(&["-o", &size], self.path())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that is about to end may still have a file open.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

fn mount(arguments: &[&str], place: &Path) -> anyhow::Result<()> {
    let output = Command::new("mount").args(arguments).arg(place).output()?;
    ensure!(
        output.status.success(),
        "mount: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
