use serde_json::{Value, json};

use super::Api;
use crate::http::Answer;

/// An error in the shape of `api`, as the JSON of a body or an event.
pub(crate) fn error_body(api: Api, status: u16, message: &str) -> Value {
    let kind = kind(api, status);
    match api {
        Api::Messages => json!({"type": "error", "error": {"type": kind, "message": message}}),
        Api::Chat | Api::Completions => {
            json!({"error": {"message": message, "type": kind, "param": null, "code": status.to_string()}})
        }
    }
}

/// An error as an answer of its own.
pub(crate) fn error_answer(api: Api, status: u16, message: &str) -> Answer {
    Answer::json(status, error_body(api, status, message).to_string())
}

const fn kind(api: Api, status: u16) -> &'static str {
    match (api, status) {
        (_, 401) => "authentication_error",
        (Api::Messages, 404) => "not_found_error",
        (Api::Messages, 413) => "request_too_large",
        (_, 429) => "rate_limit_error",
        (Api::Messages, 500..) => "api_error",
        (_, 500..) => "server_error",
        _ => "invalid_request_error",
    }
}
