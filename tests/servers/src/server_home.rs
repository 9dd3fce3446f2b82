//! The directories of one private server.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, random::random_hex, server_user::ServerUser, watchdog::Watchdog};

/// A temporary directory of the server, and the directory of its data. When it is dropped, the watchdog ends the server's
/// processes and removes the temporary directory.
#[derive(Debug)]
pub(crate) struct ServerHome {
    _watchdog: Watchdog,
    directory: PathBuf,
    storage: PathBuf,
    user: ServerUser,
}

impl ServerHome {
    /// Creates the directories. The data are in `kept_storage`, which outlives the server, or else in the temporary directory.
    /// `stop_signal` is the signal that ends the server at once.
    pub(crate) fn create(
        user: ServerUser,
        kept_storage: Option<&Path>,
        stop_signal: &str,
    ) -> Result<Self, Error> {
        let lock = kept_storage
            .map(|storage| lock_storage(storage, user))
            .transpose()?;
        let directory = create_directory(user)?;
        let kept = kept_storage.map(real_path).transpose()?;
        let kept_data = kept.as_ref().map(|storage| storage.join("data"));
        // From now on the watchdog removes the directory in any case.
        let watchdog = Watchdog::over(&directory, kept_data.as_deref(), stop_signal, lock)
            .inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let storage = kept.unwrap_or_else(|| directory.clone());
        Ok(Self {
            _watchdog: watchdog,
            directory,
            storage,
            user,
        })
    }

    /// The data directory, which the server creates itself.
    pub(crate) fn data(&self) -> PathBuf {
        self.storage.join("data")
    }

    /// The file with the server's output.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// A path in the temporary directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Creates a directory that the server may write to.
    pub(crate) fn make_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(Error::io(format!("create {}", path.display())))?;
        self.user.own(&path)?;
        Ok(path)
    }

    /// Writes a file that only the server's user may read.
    pub(crate) fn write_file(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        self.write_private(&path, content)?;
        Ok(path)
    }

    /// The administrator's password and its file. It is random and stays the same as long as the data exist.
    pub(crate) fn password(&self) -> Result<(String, PathBuf), Error> {
        let path = self.storage.join("password");
        if let Ok(password) = fs::read_to_string(&path) {
            return Ok((password, path));
        }
        let password = random_hex::<16>()?;
        self.write_private(&path, &password)?;
        Ok((password, path))
    }

    /// A command that runs as the server's user in `working_directory`. Its environment is empty, because the developer's `PGDATA` or
    /// `RABBITMQ_NODENAME` are for other servers.
    pub(crate) fn command(&self, program: &Path, working_directory: &Path) -> Command {
        let mut command = Command::new(program);
        self.user.apply_to(&mut command);
        command
            .env_clear()
            .env(
                "PATH",
                env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            )
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.directory)
            .current_dir(working_directory)
            .stdin(Stdio::null());
        command
    }

    fn write_private(&self, path: &Path, content: &str) -> Result<(), Error> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(Error::io(format!("write {}", path.display())))?;
        self.user.own(path)
    }
}

/// A new temporary directory, by its real path, which is the one that `/proc` shows.
fn create_directory(user: ServerUser) -> Result<PathBuf, Error> {
    let directory = tempfile::Builder::new()
        .prefix("llm-bench-")
        .tempdir()
        .map_err(Error::io("create a temporary directory"))?;
    user.own(directory.path())?;
    let real = real_path(directory.path())?;
    let _ = directory.keep();
    Ok(real)
}

/// Creates the directory where it is missing, and locks it against a second server on the same data.
fn lock_storage(storage: &Path, user: ServerUser) -> Result<File, Error> {
    let what = || format!("use {} as a data directory", storage.display());
    fs::create_dir_all(storage).map_err(Error::io(what()))?;
    fs::set_permissions(storage, fs::Permissions::from_mode(0o700)).map_err(Error::io(what()))?;
    user.own(storage)?;
    let lock = File::create(storage.join("lock")).map_err(Error::io(what()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::DirectoryInUse {
            directory: storage.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io(what())(error)),
    }
}

fn real_path(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(Error::io(format!("find {}", path.display())))
}
