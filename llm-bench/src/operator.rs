use std::ffi::OsStr;

use nix::unistd::{geteuid, gethostname};

/// Who runs this command, as `user@host`, for the log of what is done with dead letters. The user comes from the
/// environment and can be forged: the log does not authenticate.
pub(crate) fn operator() -> String {
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find_map(plain);
    let host = gethostname().ok().and_then(plain);
    named(user, geteuid().as_raw(), host.as_deref())
}

fn named(user: Option<String>, uid: u32, host: Option<&str>) -> String {
    let user = user.unwrap_or_else(|| format!("uid {uid}"));
    format!("{user}@{}", host.unwrap_or("unknown"))
}

/// Removes control characters and shortens the text to fit a line of a table; `None` if nothing is left.
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
        assert_eq!(named(text("alice"), 1, text("host\n").as_deref()), "alice@host");
        assert_eq!(
            named(text(""), 65532, text("pod-1").as_deref()),
            "uid 65532@pod-1"
        );
        assert_eq!(named(None, 0, None), "uid 0@unknown");
    }
}
