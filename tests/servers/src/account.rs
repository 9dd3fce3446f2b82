//! The user that a server runs as: oneself, or an unprivileged user where oneself is root.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use nix::unistd::{Gid, Uid, User, chown};

use crate::Error;

/// Whom a server runs as. PostgreSQL refuses root, and a test's broker needs no privileges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Account {
    /// The user of this process.
    Oneself,
    /// Another user, because this process is root's.
    Unprivileged(Uid, Gid),
}

impl Account {
    /// Oneself, or, where that is root, the first of `candidates` that the system knows.
    pub(crate) fn for_server(
        server: &'static str,
        candidates: &'static [&'static str],
    ) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self::Oneself);
        }
        candidates
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Unprivileged(user.uid, user.gid))
            .ok_or(Error::NoUnprivilegedUser { server, candidates })
    }

    /// Makes `command` run as this user. The supplementary groups of root are dropped by the standard library.
    pub(crate) fn apply_to(self, command: &mut Command) {
        if let Self::Unprivileged(uid, gid) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Gives a file or directory that this process made to the server's user.
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Oneself => Ok(()),
            Self::Unprivileged(uid, gid) => chown(path, Some(uid), Some(gid)).map_err(|errno| {
                Error::io(format!("give {} to the server's user", path.display()))(errno.into())
            }),
        }
    }
}
