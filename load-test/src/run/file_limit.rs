use std::io;

/// Descriptors that a run needs beside its streams: timers and epoll of each thread, files, and others of the process.
const RESERVE: u64 = 128;

/// Too few files may be open.
#[derive(Debug, thiserror::Error)]
pub enum FileLimitError {
    /// The operating system refuses to read or to raise the limit.
    #[error("the limit of open files (RLIMIT_NOFILE) cannot be raised to its hard limit")]
    Unreadable(#[source] io::Error),
    /// The hard limit is too low.
    #[error(
        "{streams} concurrent streams need {needed} open files, but this process may open {limit} (hard limit); \
         raise it (`ulimit -Hn`, LimitNOFILE, --ulimit nofile) or lower the concurrency"
    )]
    TooLow {
        /// Concurrent streams of the plan.
        streams: u64,
        /// Files that the streams and the run itself need.
        needed: u64,
        /// Files that the process may open.
        limit: u64,
    },
}

/// Raises the number of files that this process may open to the hard limit; returns it.
///
/// # Errors
///
/// Where the operating system refuses.
pub fn raise_file_limit() -> Result<u64, FileLimitError> {
    rlimit::increase_nofile_limit(u64::MAX).map_err(FileLimitError::Unreadable)
}

/// Checks that `limit` is enough for this number of streams and of descriptors for each.
pub(crate) fn check(streams: u64, descriptors_each: u64, limit: u64) -> Result<(), FileLimitError> {
    let needed = streams.saturating_mul(descriptors_each).saturating_add(RESERVE);
    if needed > limit {
        return Err(FileLimitError::TooLow {
            streams,
            needed,
            limit,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_told_with_what_is_needed() {
        assert!(check(896, 1, 1024).is_ok());
        let text = check(897, 1, 1024).unwrap_err().to_string();
        assert!(
            text.contains("897") && text.contains("1025") && text.contains("1024"),
            "{text}"
        );
        assert!(check(897, 2, 1024).is_err());
    }
}
