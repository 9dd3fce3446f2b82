//! Downloads files from Hugging Face's hub.

use std::time::Duration;

use ureq::http::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, LOCATION},
};
use url::Url;

use super::TokenizerError;
use crate::http;

/// Longest file, bytes. The largest present ones (Gemma's, with 262 144 entries) have 33 MB.
const LONGEST: u64 = 128 << 20;
/// The hub redirects for renamed repositories, and to another host for large files.
const MOST_REDIRECTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(120);

type Cause = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Downloaded {
    pub(super) json: Vec<u8>,
    /// The commit of the repository, in hexadecimal; `None` where the hub did not send it.
    pub(super) commit: Option<String>,
}

/// Downloads the file `name` of the repository `id` from the hub at `endpoint`.
pub(super) fn fetch(
    endpoint: &str,
    token: Option<&str>,
    id: &str,
    name: &str,
) -> Result<Downloaded, TokenizerError> {
    let url = format!("{}/{id}/resolve/main/{name}", endpoint.trim_end_matches('/'));
    match get(token, &url) {
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

fn get(token: Option<&str>, url: &str) -> Result<Answer, Cause> {
    let agent = http::agent(TIMEOUT);
    let origin = Url::parse(url)?;
    let mut url = origin.clone();
    let mut commit = None;
    for _ in 0..=MOST_REDIRECTS {
        // The token is for the hub alone, and not for hosts that it redirects to.
        let authorization = token.filter(|_| url.origin() == origin.origin());
        let headers = authorization.map(|token| (AUTHORIZATION, format!("Bearer {token}")));
        let response = http::send(&agent, Method::GET, url.as_str(), headers, None, LONGEST + 1)?;
        commit = commit.or_else(|| commit_of(&response));
        let status = response.status();
        if status.is_success() {
            let json = response.into_body();
            if json.len() as u64 > LONGEST {
                return Err(format!("longer than {LONGEST} bytes").into());
            }
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

/// The commit becomes the name of a directory, so only a hash is accepted.
fn commit_of(response: &Response<Vec<u8>>) -> Option<String> {
    let commit = response.headers().get("x-repo-commit")?.to_str().ok()?;
    let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| commit.to_owned())
}
