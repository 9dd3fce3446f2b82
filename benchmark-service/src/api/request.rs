//! Reads request bodies within limits and a deadline, and query parameters of which none is ignored.

use std::{collections::BTreeMap, str::FromStr};

use actix_web::{
    HttpRequest,
    http::header,
    web::{Bytes, BytesMut, Payload, Query},
};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use shared_types::Invalid;

use super::State;
use crate::problem::Problem;

/// The largest body of every route but `POST /api/v1/batches`, in bytes.
pub(super) const SMALL_BODY: usize = 64 * 1024;

/// Reads a JSON body of at most `limit` bytes within the deadline. (actix-web has a timeout only for the head of a
/// request.)
///
/// # Errors
/// 415 for another media type and for every content encoding (the service does not decompress, so it cannot be attacked
/// with a decompression bomb), 413 over the limit, 408 after the deadline, 400 for a body that breaks off.
pub(super) async fn read_body(
    request: &HttpRequest,
    state: &State,
    payload: Payload,
    limit: usize,
) -> Result<Bytes, Problem> {
    check_form(request)?;
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(Problem::too_large(limit));
    }
    tokio::time::timeout(state.body_deadline, collect(payload, limit))
        .await
        .map_err(|_: tokio::time::error::Elapsed| Problem::body_timeout())?
}

fn check_form(request: &HttpRequest) -> Result<(), Problem> {
    let headers = request.headers();
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Problem::unsupported_media_type(
            "send the body without Content-Encoding",
        ));
    }
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.split(';').next().map(str::trim));
    match media_type {
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Problem::unsupported_media_type(
            "send JSON with Content-Type: application/json",
        )),
    }
}

async fn collect(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|broken| Problem::malformed(broken.to_string()))?;
        if body.len() + chunk.len() > limit {
            return Err(Problem::too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Reads a small JSON body as a `T`.
///
/// # Errors
/// The errors of [`read_body`]; 400 if the body is not JSON, 422 with the field's path if a field is not accepted.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    state: &State,
    payload: Payload,
) -> Result<T, Problem> {
    let body = read_body(request, state, payload, SMALL_BODY).await?;
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|refused| {
        let (path, error) = (refused.path().to_string(), refused.into_inner());
        if error.is_data() {
            let found = "a value that does not fit";
            Problem::unprocessable(vec![Invalid::new(path, found, error.to_string())])
        } else {
            Problem::malformed(error.to_string())
        }
    })?;
    deserializer
        .end()
        .map_err(|trailing| Problem::malformed(trailing.to_string()))?;
    Ok(value)
}

/// Whether a batch may have this time. Batches with times outside 1970 to 9999 are refused when they arrive, and
/// databases cannot represent all such times.
pub(super) fn is_valid_batch_time(time: &DateTime<Utc>) -> bool {
    /// The start of the year 10000, in seconds.
    const END: i64 = 253_402_300_800;
    (0..END).contains(&time.timestamp())
}

/// The parameters of a query. The caller takes them one by one; `finish` refuses those that are left.
pub(super) struct Parameters {
    left: BTreeMap<String, String>,
    known: Vec<&'static str>,
    refused: Vec<Invalid>,
}

impl Parameters {
    /// Splits the query.
    ///
    /// # Errors
    /// It is not form-urlencoded UTF-8, or names a parameter twice.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|error| Invalid::new("query", error, "name=value pairs"))?
            .into_inner();
        let mut parameters = Self {
            left: BTreeMap::new(),
            known: Vec::new(),
            refused: Vec::new(),
        };
        for (name, value) in pairs {
            if parameters.left.insert(name.clone(), value).is_some() {
                parameters
                    .refused
                    .push(Invalid::new(name, "the parameter twice", "it once"));
            }
        }
        Ok(parameters)
    }

    /// Takes a parameter whose error says what is expected.
    pub(super) fn take<T: FromStr<Err = Invalid>>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let refused = |refused: Invalid| Invalid {
            field: name.to_owned(),
            ..refused
        };
        match self.left.remove(name)?.parse() {
            Ok(value) => Some(value),
            Err(invalid) => {
                self.refused.push(refused(invalid));
                None
            }
        }
    }

    /// Takes a parameter of any type; the error says `expected`.
    pub(super) fn take_as<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
        accept: impl Fn(&T) -> bool,
    ) -> Option<T> {
        self.known.push(name);
        let raw = self.left.remove(name)?;
        match raw.parse() {
            Ok(value) if accept(&value) => Some(value),
            Ok(_) | Err(_) => {
                self.refused
                    .push(Invalid::new(name, raw.escape_debug(), expected));
                None
            }
        }
    }

    /// Refuses the query if a required parameter is missing.
    pub(super) fn require<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.refused.iter().any(|refused| refused.field == name) {
            self.refused.push(Invalid::new(name, "nothing", "the parameter"));
        }
        value
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Names every refused and every unknown parameter.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let expected = if self.known.is_empty() {
            "no parameters".to_owned()
        } else {
            format!("only {}", self.known.join(", "))
        };
        let unknown = self
            .left
            .into_keys()
            .map(|name| Invalid::new(name.escape_debug().to_string(), "an unknown parameter", &expected));
        self.refused.extend(unknown);
        if self.refused.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.refused))
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, test::TestRequest};
    use shared_types::LlmName;

    use super::*;

    fn parameters(query: &str) -> Parameters {
        let request = TestRequest::with_uri(&format!("/?{query}")).to_http_request();
        Parameters::of(&request).unwrap()
    }

    #[test]
    fn every_refused_parameter_is_named() {
        let mut given = parameters("llm=a%00b&limit=x&extra=1");
        assert_eq!(given.take::<LlmName>("llm"), None);
        assert_eq!(given.take_as::<u32>("limit", "a number", |_| true), None);
        let problem = given.finish().unwrap_err();
        let told = problem.to_string();
        assert_eq!(problem.status_code(), 400);
        for name in [
            "llm: found the control character",
            "limit: found x",
            "extra: found an unknown parameter, expected only llm, limit",
        ] {
            assert!(told.contains(name), "{told}");
        }
    }

    #[test]
    fn a_parameter_is_given_once_and_may_be_required() {
        assert!(parameters("a=1&a=2").finish().is_err());
        let mut given = parameters("");
        let missing = given.take::<LlmName>("llm");
        assert!(given.require("llm", missing).is_none());
        assert!(
            given
                .finish()
                .unwrap_err()
                .to_string()
                .contains("llm: found nothing")
        );
        assert!(parameters("").finish().is_ok());
    }
}
