//! A hub on this machine, spoken to over real sockets.

use std::path::Path;

use super::{tests::byte_level_json, *};
use crate::scripted_server::{ScriptedServer, answer};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ID: &str = "acme/model-1";

fn found() -> String {
    answer(
        "200 OK",
        &format!("x-repo-commit: {COMMIT}\r\n"),
        &byte_level_json().to_string(),
    )
}

fn hub(url: &str, home: &Path, token: Option<&str>) -> Hub {
    Hub::from_vars(|name| match name {
        "HF_ENDPOINT" => Some(url.to_owned()),
        "HF_HOME" => Some(home.to_str().unwrap().to_owned()),
        "HF_TOKEN" => token.map(str::to_owned),
        _ => None,
    })
}

#[test]
fn a_tokenizer_is_downloaded_once() {
    let home = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([found()]);
    let hub = hub(&server.url, home.path(), Some("hf_secret"));
    let downloaded = hub.tokenizer(ID).unwrap();
    assert_eq!(downloaded.describe().source, TokenizerSource::HubDownload);
    assert_eq!(downloaded.describe().note, None);
    let requests = server.heads();
    assert!(
        requests[0].starts_with("get /acme/model-1/resolve/main/tokenizer.json http/1.1"),
        "{requests:?}"
    );
    assert!(
        requests[0].contains("authorization: bearer hf_secret"),
        "{requests:?}"
    );

    // The server is gone, so this can only be the cache.
    let cached = hub.tokenizer(ID).unwrap();
    assert_eq!(cached.describe().source, TokenizerSource::HubCache);
    assert_eq!(cached.describe().id, ID);
    assert_eq!(cached.count("the the").unwrap(), 2);
    let snapshot = home
        .path()
        .join("hub/models--acme--model-1/snapshots")
        .join(COMMIT)
        .join("tokenizer.json");
    assert!(snapshot.is_file());
}

#[test]
fn a_model_named_like_its_repository_needs_no_tokenizer_id() {
    let home = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([found()]);
    let tokenizer = choose(None, ID, &hub(&server.url, home.path(), None)).unwrap();
    assert_eq!(tokenizer.describe().source, TokenizerSource::HubDownload);
    assert!(!server.heads()[0].contains("authorization"));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = ScriptedServer::start([answer("200 OK", "", &byte_level_json().to_string())]);
    let away = format!(
        "x-repo-commit: {COMMIT}\r\nlocation: {}/blob?signature=1\r\n",
        elsewhere.url
    );
    let server = ScriptedServer::start([
        answer(
            "307 Temporary Redirect",
            "location: /acme/renamed/resolve/main/tokenizer.json\r\n",
            "",
        ),
        answer("302 Found", &away, ""),
    ]);
    let tokenizer = hub(&server.url, home.path(), Some("hf_secret"))
        .tokenizer(ID)
        .unwrap();
    assert_eq!(tokenizer.describe().source, TokenizerSource::HubDownload);
    let (asked, asked_elsewhere) = (server.heads(), elsewhere.heads());
    assert!(
        asked[1].starts_with("get /acme/renamed/resolve/main/tokenizer.json"),
        "{asked:?}"
    );
    assert!(asked.iter().all(|head| head.contains("hf_secret")), "{asked:?}");
    assert!(
        asked_elsewhere[0].starts_with("get /blob?signature=1"),
        "{asked_elsewhere:?}"
    );
    assert!(
        !asked_elsewhere[0].contains("authorization"),
        "{asked_elsewhere:?}"
    );
    assert!(
        home.path().join("hub/models--acme--model-1/refs/main").is_file(),
        "the first answer says the commit"
    );
}

#[test]
fn a_commit_that_is_no_hash_becomes_no_directory() {
    let home = tempfile::tempdir().unwrap();
    let body = byte_level_json().to_string();
    let server = ScriptedServer::start([answer("200 OK", "x-repo-commit: ../../../../outside\r\n", &body)]);
    let tokenizer = hub(&server.url, home.path(), None).tokenizer(ID).unwrap();
    assert!(
        tokenizer
            .describe()
            .note
            .as_ref()
            .unwrap()
            .contains("could not be kept in the cache")
    );
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    server.heads();
}

#[test]
fn refusals_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    for (status, advice) in [
        ("401 Unauthorized", "set HF_TOKEN"),
        ("403 Forbidden", "set HF_TOKEN"),
        ("404 Not Found", "has no tokenizer.json"),
        ("500 Internal Server Error", "answered 500"),
    ] {
        let server = ScriptedServer::start([answer(status, "", "")]);
        let error = hub(&server.url, home.path(), None).tokenizer(ID).unwrap_err();
        assert!(matches!(error, TokenizerError::Status { .. }), "{error}");
        assert!(error.to_string().contains(advice), "{error}");
        server.heads();
    }
}

#[test]
fn an_endless_redirect_ends() {
    let home = tempfile::tempdir().unwrap();
    let round = || answer("302 Found", "location: /again\r\n", "");
    let server = ScriptedServer::start((0..6).map(|_| round()));
    let error = hub(&server.url, home.path(), None).tokenizer(ID).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "more than 5 redirects");
    server.heads();
}

#[test]
fn without_a_network_the_error_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    // Nothing listens on tcpmux, and no test takes a port of the privileged.
    let hub = hub("http://127.0.0.1:1", home.path(), None);
    let error = hub.tokenizer(ID).unwrap_err();
    assert!(matches!(error, TokenizerError::Download { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("without a network, download it elsewhere"),
        "{error}"
    );
    let default = choose(None, ID, &hub).unwrap();
    assert_eq!(default.describe().source, TokenizerSource::Default);
    assert!(
        default
            .describe()
            .note
            .as_ref()
            .unwrap()
            .contains("could not be downloaded")
    );
}

#[test]
fn what_is_downloaded_has_to_be_a_tokenizer() {
    let home = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([answer(
        "200 OK",
        &format!("x-repo-commit: {COMMIT}\r\n"),
        "<html>sign in</html>",
    )]);
    let error = hub(&server.url, home.path(), None).tokenizer(ID).unwrap_err();
    assert!(matches!(error, TokenizerError::Parse { .. }), "{error}");
    assert!(!home.path().join("hub").exists(), "it is not kept");
    server.heads();
}

#[tokio::test]
async fn a_thread_of_an_async_runtime_may_download() {
    let home = tempfile::tempdir().unwrap();
    let server = ScriptedServer::start([found()]);
    hub(&server.url, home.path(), None).tokenizer(ID).unwrap();
    server.heads();
}

#[test]
fn the_login_is_used_where_no_token_is_set_and_shown_to_nobody() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_login\n").unwrap();
    let hub = hub("http://hub", home.path(), None);
    assert_eq!(hub.token.as_deref(), Some("hf_login"));
    assert!(!format!("{hub:?}").contains("hf_login"));
}
