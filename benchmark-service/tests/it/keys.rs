//! How keys are stored, and how they are rotated.

use std::{fs, time::Duration};

use benchmark_service::Timing;
use sha2::{Digest, Sha256};
use storage::{ApiKeyId, ApiKeys, Scope};
use test_patience::until;

use crate::app::{Options, TestApp, now};

fn id_of(key: &str) -> ApiKeyId {
    ApiKeyId(key.split('_').nth(1).unwrap().to_owned())
}

async fn status(app: &TestApp, key: &str) -> u16 {
    let request = app
        .request(reqwest::Method::GET, "/api/v1/llms")
        .header("api-key", key);
    request.send().await.unwrap().status().as_u16()
}

/// The files of the database contain no key, and nothing that allows checking a guess without the pepper.
#[tokio::test(flavor = "multi_thread")]
async fn the_databases_files_hold_no_usable_key() {
    let app = TestApp::with(Options::with_keys()).await;
    let key = app.key(Scope::Admin).await;
    app.until_key_is_accepted(&key).await;
    let hash = app.storage.api_keys().await.unwrap()[0].hash;
    let files: Vec<Vec<u8>> = fs::read_dir(app.data())
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let stored = |needle: &[u8]| {
        files
            .iter()
            .any(|file| file.windows(needle.len()).any(|window| window == needle))
    };
    let secret = key.rsplit_once('_').unwrap().1;
    assert!(
        stored(id_of(&key).0.as_bytes()) && stored(&hash),
        "the search finds what is there"
    );
    for (what, canary) in [
        ("the key", key.as_bytes().to_vec()),
        ("its secret", secret.as_bytes().to_vec()),
        ("the secret's bytes", bytes_of(secret)),
        ("the plain hash of the key", Sha256::digest(&key).to_vec()),
        ("the plain hash of the secret", Sha256::digest(secret).to_vec()),
        (
            "the plain hash of the secret's bytes",
            Sha256::digest(bytes_of(secret)).to_vec(),
        ),
    ] {
        assert!(!stored(&canary), "{what}");
        let hexadecimal: String = canary.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!stored(hexadecimal.as_bytes()), "{what}, in hexadecimal");
    }
    app.end().await;
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect()
}

/// The new key is accepted while the old one still is; then the old one is refused. A deployed service takes at most 30
/// seconds for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_without_a_gap() {
    const PROMISED: Duration = Duration::from_secs(30);
    assert!(2 * Timing::default().key_refresh < PROMISED);
    let app = TestApp::with(Options::with_keys()).await;
    let old = app.key(Scope::Read).await;
    app.until_key_is_accepted(&old).await;
    let new = app.key(Scope::Read).await;
    app.until_key_is_accepted(&new).await;
    assert_eq!((status(&app, &old).await, status(&app, &new).await), (200, 200));

    app.storage.revoke_api_key(&id_of(&old), now()).await.unwrap();
    until("the revocation is noticed", async || {
        status(&app, &old).await == 401
    })
    .await;
    assert_eq!(status(&app, &new).await, 200);
    app.end().await;
}
