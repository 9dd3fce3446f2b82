use std::{ffi::OsStr, fs, os::unix::fs::MetadataExt};

/// Who runs this command, for the log of what is done with dead letters: `user@host`. What the environment says can be forged by whoever runs
/// the command; the log records, it does not authenticate.
pub(crate) fn operator() -> String {
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find_map(plain);
    let uid = fs::metadata("/proc/self").ok().map(|process| process.uid());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host
        .and_then(plain)
        .or_else(|| plain(std::env::var_os("HOSTNAME")?));
    named(user, uid, host)
}

fn named(user: Option<String>, uid: Option<u32>, host: Option<String>) -> String {
    let unknown = || "unknown".to_owned();
    let user = user.or_else(|| Some(format!("uid {}", uid?)));
    format!(
        "{}@{}",
        user.unwrap_or_else(unknown),
        host.unwrap_or_else(unknown)
    )
}

/// Text without control characters that fits a line of a table.
fn plain(text: impl AsRef<OsStr>) -> Option<String> {
    const LONGEST: usize = 100;
    let text: String = text
        .as_ref()
        .to_string_lossy()
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_user_is_told_by_its_number() {
        let text = |text: &str| plain(text);
        assert_eq!(named(text("alice"), Some(1), text("host\n")), "alice@host");
        assert_eq!(named(text(""), Some(65532), text("pod-1")), "uid 65532@pod-1");
        assert_eq!(named(None, None, None), "unknown@unknown");
    }
}
