//! The user that a server runs as: the current user, or an unprivileged user where the current user is root.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use nix::unistd::{Gid, Uid, User, chown};

use crate::Error;

/// The user that a server runs as. PostgreSQL refuses to run as root, and RabbitMQ needs no privileges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerUser {
    /// The user of this process.
    Current,
    /// Another user, because this process runs as root.
    Unprivileged(Uid, Gid),
}

impl ServerUser {
    /// Current, or, where that is root, the first of `candidates` that the system knows.
    pub(crate) fn for_server(
        server: &'static str,
        candidates: &'static [&'static str],
    ) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self::Current);
        }
        candidates
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Unprivileged(user.uid, user.gid))
            .ok_or(Error::NoUnprivilegedUser { server, candidates })
    }

    /// Makes `command` run as this user. The standard library drops the supplementary groups of root.
    pub(crate) fn apply_to(self, command: &mut Command) {
        if let Self::Unprivileged(uid, gid) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Makes this user the owner of a file or directory that this process created.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Current => Ok(()),
            Self::Unprivileged(uid, gid) => chown(path, Some(uid), Some(gid)).map_err(|errno| {
                Error::io(format!("give {} to the server's user", path.display()))(errno.into())
            }),
        }
    }
}
