//! The directories of one private server, and who owns them.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Error, account::Account, secret::random_hex, watchdog::Watchdog};

/// A directory of the server's own, removed in the end with every process that runs in it, and the place of its data.
#[derive(Debug)]
pub(crate) struct ServerHome {
    _watchdog: Watchdog,
    directory: PathBuf,
    storage: PathBuf,
    account: Account,
}

impl ServerHome {
    /// Makes the directories. `kept_storage` is a directory that outlives the server; without it, the data are as
    /// short-lived as the rest. `quickly` is the signal that makes the server end at once.
    pub(crate) fn create(
        account: Account,
        kept_storage: Option<&Path>,
        quickly: &str,
    ) -> Result<Self, Error> {
        let lock = kept_storage
            .map(|storage| lock_storage(storage, account))
            .transpose()?;
        let directory = create_directory(account)?;
        let kept = kept_storage.map(real_path).transpose()?;
        let kept_data = kept.as_ref().map(|storage| storage.join("data"));
        // From here on the watchdog removes the directory, whatever happens.
        let watchdog = Watchdog::over(&directory, kept_data.as_deref(), quickly, lock)
            .inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let storage = kept.unwrap_or_else(|| directory.clone());
        Ok(Self {
            _watchdog: watchdog,
            directory,
            storage,
            account,
        })
    }

    /// Where the server keeps its data. Made by the server itself.
    pub(crate) fn data(&self) -> PathBuf {
        self.storage.join("data")
    }

    /// The file that everything the server prints goes to.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// A path in the server's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a directory that the server may write to.
    pub(crate) fn make_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(Error::io(format!("create {}", path.display())))?;
        self.account.give(&path)?;
        Ok(path)
    }

    /// Writes a file that the server may read and nobody else.
    pub(crate) fn write_file(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        self.write_private(&path, content)?;
        Ok(path)
    }

    /// The administrator's password: as random as a key, and the same for as long as the data live.
    pub(crate) fn password(&self) -> Result<(String, PathBuf), Error> {
        let path = self.storage.join("password");
        if let Ok(password) = fs::read_to_string(&path) {
            return Ok((password, path));
        }
        let password = random_hex::<16>()?;
        self.write_private(&path, &password)?;
        Ok((password, path))
    }

    /// A command that runs as the server's user, in `working_directory`, with a clean environment: the developer's
    /// own `PGDATA` or `RABBITMQ_NODENAME` are meant for other servers.
    pub(crate) fn command(&self, program: &Path, working_directory: &Path) -> Command {
        let mut command = Command::new(program);
        self.account.apply_to(&mut command);
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
        self.account.give(path)
    }
}

/// A new directory among the temporary files, by its real path: that is what `/proc` shows.
fn create_directory(account: Account) -> Result<PathBuf, Error> {
    let directory = tempfile::Builder::new()
        .prefix("llm-bench-")
        .tempdir()
        .map_err(Error::io("create a temporary directory"))?;
    account.give(directory.path())?;
    let real = real_path(directory.path())?;
    let _ = directory.keep();
    Ok(real)
}

/// Makes the directory where it is missing, and locks it against a second server on the same data.
fn lock_storage(storage: &Path, account: Account) -> Result<File, Error> {
    let what = || format!("use {} as a data directory", storage.display());
    fs::create_dir_all(storage).map_err(Error::io(what()))?;
    fs::set_permissions(storage, fs::Permissions::from_mode(0o700)).map_err(Error::io(what()))?;
    account.give(storage)?;
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
