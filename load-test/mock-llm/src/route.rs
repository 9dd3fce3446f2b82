use precise_time::MonotonicTime;
use serde_json::json;

use crate::{
    Misbehaviour,
    api::{self, Api, FinishReason, GenerationRequest, OpenAiChat, ResponseFacts},
    deadlines::{Deadlines, Draws},
    http::{HttpResponse, Method, Refusal, RequestHead},
    response::{MisbehavingResponse, Response, ResponsePlan, StreamedResponse, WholeResponse},
    server_state::ServerState,
    text::Text,
};

const ROLE_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// The value of the header with status 429, in s.
const RETRY_AFTER: &str = "1";
const INCOMPLETE_RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"id\":\"chat";
/// The paths that no API has.
const OTHER_PATHS: [&str; 3] = ["/v1/models", "/healthz", "/stats"];

/// The reply to a request.
pub(crate) enum Reply {
    Now(HttpResponse),
    /// A response that takes its time.
    Generate(Box<WaitingGeneration>),
}

/// A response that waits for its slot.
pub(crate) struct WaitingGeneration {
    request: GenerationRequest,
    api: &'static dyn Api,
    number: u64,
    fails_halfway: bool,
    misbehaviour: Option<Misbehaviour>,
    keep_alive: bool,
}

/// `number` is the request's number, counted from the server's start.
pub(crate) fn route(server: &ServerState, number: u64, head: &RequestHead, body: &[u8]) -> Reply {
    let path = head.path.as_str();
    let api = api::ALL.iter().copied().find(|api| api.path() == path);
    let (method, allowed) = match api {
        Some(_) => (Method::Post, "POST"),
        None if OTHER_PATHS.contains(&path) => (Method::Get, "GET"),
        None => {
            let paths: Vec<_> = api::ALL.iter().map(|api| api.path()).chain(OTHER_PATHS).collect();
            let expected = paths.join(", ").replace(", /stats", " or /stats");
            let text = format!("there is no {path:?}; expected {expected}");
            return Reply::Now(error(&OpenAiChat, 404, &text));
        }
    };
    if head.method != method {
        let text = format!("{path} answers to {allowed} only");
        let response = error(api.unwrap_or(&OpenAiChat), 405, &text);
        return Reply::Now(response.with_header("allow", allowed));
    }
    match api {
        Some(api) => generation(server, api, number, head, body).unwrap_or_else(Reply::Now),
        None => Reply::Now(information(server, head)),
    }
}

/// The response to a request that could not be read.
pub(crate) fn refused(refusal: &Refusal) -> HttpResponse {
    error(&OpenAiChat, refusal.status(), &refusal.to_string())
}

fn error(api: &dyn Api, status: u16, message: &str) -> HttpResponse {
    HttpResponse::json(status, api.error(status, message).to_string())
}

fn information(server: &ServerState, head: &RequestHead) -> HttpResponse {
    let body = match head.path.as_str() {
        "/stats" => json!(server.stats()),
        "/healthz" => json!({"status": "ok"}),
        _ if !is_allowed(server, head) => return unauthorized(&OpenAiChat),
        _ => {
            let mut models = server.settings.models.clone();
            if models.is_empty() {
                models.push("mock-llm".to_owned());
            }
            let model =
                |id| json!({"id": id, "object": "model", "created": server.created, "owned_by": "mock-llm"});
            json!({"object": "list", "data": models.into_iter().map(model).collect::<Vec<_>>()})
        }
    };
    HttpResponse::json(200, body.to_string())
}

fn is_allowed(server: &ServerState, head: &RequestHead) -> bool {
    let (required, offered) = (&server.settings.api_key, head.key.as_deref());
    required
        .as_ref()
        .is_none_or(|key| offered.is_some_and(|offered| key.is(offered)))
}

fn unauthorized(api: &dyn Api) -> HttpResponse {
    let text = "the API key is missing or wrong: expected it in `Authorization: Bearer` or `x-api-key`";
    error(api, 401, text)
}

fn generation(
    server: &ServerState,
    api: &'static dyn Api,
    number: u64,
    head: &RequestHead,
    body: &[u8],
) -> Result<Reply, HttpResponse> {
    if !is_allowed(server, head) {
        return Err(unauthorized(api));
    }
    let request = GenerationRequest::parse(api, body).map_err(|text| error(api, 400, &text))?;
    let misbehaviour = misbehaviour(server, api, head, &request)?;
    if let Some(response) = misbehaving_response(server, api, misbehaviour) {
        return Err(response);
    }
    let fails_halfway = match injected_error(server, number) {
        None => misbehaviour == Some(Misbehaviour::InStreamError),
        Some(429) => return Err(too_many_requests(api)),
        Some(500) => return Err(error(api, 500, "an injected error")),
        Some(_) => true,
    };
    if fails_halfway && !request.is_stream {
        return Err(error(api, 500, "an injected error"));
    }
    Ok(Reply::Generate(Box::new(WaitingGeneration {
        request,
        api,
        number,
        fails_halfway,
        misbehaviour,
        keep_alive: head.keep_alive,
    })))
}

/// The misbehaviour that the request asks for, or else the server's setting.
fn misbehaviour(
    server: &ServerState,
    api: &dyn Api,
    head: &RequestHead,
    request: &GenerationRequest,
) -> Result<Option<Misbehaviour>, HttpResponse> {
    let by_model = request.model.strip_prefix("misbehave:");
    if let Some(name) = head.misbehaviour.as_deref().or(by_model) {
        let parsed = name.parse();
        return parsed
            .map(Some)
            .map_err(|unknown: crate::UnknownMisbehaviour| error(api, 400, &unknown.to_string()));
    }
    let models = &server.settings.models;
    if !models.is_empty() && !models.contains(&request.model) {
        let text = format!(
            "model: found {:?}, expected one of {}",
            request.model,
            models.join(", ")
        );
        return Err(error(api, 404, &text));
    }
    Ok(server.settings.misbehaviour)
}

fn too_many_requests(api: &dyn Api) -> HttpResponse {
    error(api, 429, "too many requests").with_header("retry-after", RETRY_AFTER)
}

/// The response of a misbehaviour that is not a stream.
fn misbehaving_response(
    server: &ServerState,
    api: &dyn Api,
    misbehaviour: Option<Misbehaviour>,
) -> Option<HttpResponse> {
    match misbehaviour? {
        Misbehaviour::RateLimited => Some(too_many_requests(api)),
        Misbehaviour::ErrorBody200 => {
            let body = api.error(500, "an error with status 200");
            Some(HttpResponse::json(200, body.to_string()))
        }
        Misbehaviour::Redirect => {
            let mut address = server.address;
            address.set_port(address.port().checked_add(1).unwrap_or(1024));
            let location = format!("http://{address}/v1/moved");
            Some(error(api, 302, "moved").with_header("location", &location))
        }
        _ => None,
    }
}

/// The status of the error that is drawn for this request, if one is. A stream that fails halfway has status 200.
fn injected_error(server: &ServerState, number: u64) -> Option<u16> {
    let errors = server.settings.errors;
    let any = errors.too_many_requests + errors.internal + errors.in_stream;
    if any <= 0.0 {
        return None;
    }
    let drawn = Draws::for_errors(server.settings.seed, number).share();
    if drawn < errors.too_many_requests {
        Some(429)
    } else if drawn < errors.too_many_requests + errors.internal {
        Some(500)
    } else {
        (drawn < any).then_some(200)
    }
}

impl WaitingGeneration {
    /// The response to a request that was `received` and got its slot when it was `admitted`.
    pub(crate) fn begin(
        self,
        server: &ServerState,
        received: MonotonicTime,
        admitted: MonotonicTime,
    ) -> Response {
        let (is_stream, fails_halfway, misbehaviour) =
            (self.request.is_stream, self.fails_halfway, self.misbehaviour);
        let mut plan = self.plan(server, received, admitted);
        let misbehaving = match (is_stream, misbehaviour) {
            (_, None) => return well_behaved(plan, is_stream, fails_halfway),
            (true, Some(Misbehaviour::InStreamError)) => return well_behaved(plan, true, true),
            (true, Some(Misbehaviour::NeverEnding)) => {
                return Response::Streamed(StreamedResponse::new(plan).endless());
            }
            (true, Some(Misbehaviour::RoleThenPause)) => {
                plan.deadlines.delay(ROLE_PAUSE);
                return well_behaved(plan, true, false);
            }
            (true, Some(misbehaviour))
            | (false, Some(misbehaviour @ (Misbehaviour::ResetBeforeHead | Misbehaviour::NoHead))) => {
                MisbehavingResponse::new(misbehaviour, plan)
            }
            (false, Some(Misbehaviour::ResetAfterHead | Misbehaviour::ResetInChunk)) => {
                MisbehavingResponse::cut(plan, INCOMPLETE_RESPONSE.to_vec())
            }
            (false, Some(_)) => return well_behaved(plan, false, false),
        };
        Response::Misbehaving(misbehaving)
    }

    fn plan(self, server: &ServerState, received: MonotonicTime, admitted: MonotonicTime) -> ResponsePlan {
        let Self {
            request, api, number, ..
        } = self;
        let settings = &server.settings;
        let output_tokens = request
            .max_tokens
            .map_or(settings.output_tokens, |max| max.min(settings.output_tokens));
        let is_cut = request.max_tokens == Some(output_tokens);
        let answer = request.number.map(|right| {
            let is_wrong = settings.wrong_numbers > 0.0
                && Draws::for_numbers(settings.seed, number).share() < settings.wrong_numbers;
            (right + u64::from(is_wrong)).to_string()
        });
        ResponsePlan {
            facts: ResponseFacts {
                api,
                number,
                created: server.created,
                model: json!(request.model).to_string(),
                input_tokens: request.input_tokens,
                output_tokens,
                finish_reason: if is_cut {
                    FinishReason::Length
                } else {
                    FinishReason::Stop
                },
                states_usage: settings.usage
                    && (request.includes_usage || !request.is_stream || api.always_states_usage()),
            },
            text: Text::new(settings.seed ^ number, answer),
            tokens_per_chunk: settings.tokens_per_chunk,
            deadlines: Deadlines::new(settings, server.stalls, admitted, request.input_tokens, || {
                Draws::for_times(settings.seed, number)
            }),
            received,
            keep_alive: self.keep_alive,
        }
    }
}

fn well_behaved(plan: ResponsePlan, is_stream: bool, fails_halfway: bool) -> Response {
    if !is_stream {
        return Response::Whole(WholeResponse::new(plan));
    }
    let streamed = StreamedResponse::new(plan);
    Response::Streamed(if fails_halfway {
        streamed.failing("an injected error in the stream")
    } else {
        streamed
    })
}
