use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process open as many files as it may at most, for a server of thousands of connections. Returns how many.
///
/// # Errors
///
/// Where the operating system refuses.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
