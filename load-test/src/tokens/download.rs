//! A tokenizer from the hub.

use std::{io::Read, sync::Arc, time::Duration};

use reqwest::{
    StatusCode, Url,
    blocking::{Client, Response},
    header::LOCATION,
    redirect,
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{FILE_NAME, Hub, TokenizerError};

/// The largest of today's (Gemma's, with 262 144 entries) have 33 MB.
const LONGEST: u64 = 128 << 20;
/// The hub sends a renamed repository elsewhere, and large files to another host.
const MOST_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(120);

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Downloaded {
    pub(super) json: Vec<u8>,
    /// The repository's commit that it is of, in hexadecimal.
    pub(super) commit: Option<String>,
}

pub(super) fn fetch(hub: &Hub, id: &str) -> Result<Downloaded, TokenizerError> {
    let url = format!(
        "{}/{id}/resolve/main/{FILE_NAME}",
        hub.endpoint.trim_end_matches('/')
    );
    // A thread of its own: reqwest's blocking client panics in a thread of an async runtime.
    let answer = std::thread::scope(|scope| scope.spawn(|| get(hub, &url)).join());
    let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match answer {
        Ok(Answer::Found(downloaded)) => Ok(downloaded),
        Ok(Answer::Refused(status)) => Err(TokenizerError::Status {
            id: id.to_owned(),
            url,
            status: status.as_u16(),
            advice: advice(status),
        }),
        Err(source) => Err(TokenizerError::Download {
            id: id.to_owned(),
            url,
            source,
        }),
    }
}

enum Answer {
    Found(Downloaded),
    Refused(StatusCode),
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "there is no such model, or it asks for permission: set HF_TOKEN to the token of an account that has it"
        }
        StatusCode::NOT_FOUND => "the model has no tokenizer.json, or there is no such model",
        StatusCode::TOO_MANY_REQUESTS => "too many downloads from this address; set HF_TOKEN, or name a file",
        _ => "expected the file",
    }
}

fn get(hub: &Hub, url: &str) -> Result<Answer, Cause> {
    let client = client()?;
    let origin = Url::parse(url)?;
    let mut url = origin.clone();
    let mut commit = None;
    for _ in 0..=MOST_REDIRECTS {
        let mut request = client.get(url.clone());
        // The token is for the hub alone, not for whom it sends us to.
        if let Some(token) = hub.token.as_ref().filter(|_| url.origin() == origin.origin()) {
            request = request.bearer_auth(token);
        }
        let response = request.send()?;
        commit = commit.or_else(|| commit_of(&response));
        let status = response.status();
        if status.is_success() {
            let json = whole_body(response)?;
            return Ok(Answer::Found(Downloaded { json, commit }));
        }
        let Some(location) = response
            .headers()
            .get(LOCATION)
            .filter(|_| status.is_redirection())
        else {
            return Ok(Answer::Refused(status));
        };
        url = url.join(location.to_str()?)?;
        if origin.scheme() == "https" && url.scheme() != "https" {
            return Err(format!("redirected to {}, which is not encrypted", url.as_str()).into());
        }
    }
    Err(format!("more than {MOST_REDIRECTS} redirects").into())
}

fn whole_body(response: Response) -> Result<Vec<u8>, Cause> {
    let mut body = Vec::new();
    response.take(LONGEST + 1).read_to_end(&mut body)?;
    if body.len() as u64 > LONGEST {
        return Err(format!("longer than {LONGEST} bytes").into());
    }
    Ok(body)
}

/// The commit becomes a directory's name: nothing but a hash is taken.
fn commit_of(response: &Response) -> Option<String> {
    let commit = response.headers().get("x-repo-commit")?.to_str().ok()?;
    let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_owned())
}

fn client() -> Result<Client, Cause> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent(concat!("llm-bench/", env!("CARGO_PKG_VERSION")));
    Ok(client.build()?)
}
