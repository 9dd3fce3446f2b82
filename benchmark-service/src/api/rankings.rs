//! The rankings, out of the snapshot: no lock, no query, and nothing serialised that was serialised before.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::HeaderValue,
    web::{Data, Path},
};
use shared_types::{Invalid, MetricTitle};

use super::{
    State,
    request::Parameters,
    response::{CSV, JSON, ready_made, with_freshness},
    schemas::{FormatName, Text},
};
use crate::{
    auth::{Allowed, ReadRankings},
    problem::{Problem, ProblemBody},
    snapshot::{
        AllRankings, Body, MetricRanking, NumberedRanking, PlainRow, Rounding, Selection, Shape,
        SourceFilter, Statistic, Window,
    },
};

type Permit = Allowed<ReadRankings>;

/// Every metric's ranking.
#[utoipa::path(
    get, path = "/api/v1/benchmarks/rankings", tag = "rankings", operation_id = "rankings",
    params(
        ("source" = inline(Option<SourceFilter>), Query, description = "whose values; the service's default where it is not given"),
        ("window" = inline(Option<Window>), Query, description = "how far back values count (default all)"),
        ("statistic" = inline(Option<Statistic>), Query, description = "what is ranked by (default mean)"),
        ("format" = inline(Option<FormatName>), Query, description = "json (default) or csv"),
        ("round" = Option<u8>, Query, maximum = 15, description = "digits after the decimal point, 0 to 15; without it numbers keep full precision"),
    ),
    responses(
        (status = 200, description = "the rankings, with a strong ETag",
            content((AllRankings = "application/json"), (String = "text/csv")),
            headers(
                ("X-Data-As-Of" = DateTime<Utc>, description = "everything that was counted until then is known to be in the answer"),
                ("X-Data-Stale" = bool, description = "true while the database or the consumer is away: newer values may be missing"),
            )),
        (status = 304, description = "the client has this state already (If-None-Match)"),
        (status = 400, description = "a parameter was refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "no or wrong key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many requests", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn all(
    _: Permit,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, None, Shape::Json)
}

/// One metric's ranking. A metric without values yet has an empty list.
#[utoipa::path(
    get, path = "/api/v1/benchmarks/rankings/{metric}", tag = "rankings", operation_id = "ranking",
    params(
        ("metric" = inline(Text), Path, description = "the metric's title, in any case"),
        ("source" = inline(Option<SourceFilter>), Query, description = "whose values"),
        ("window" = inline(Option<Window>), Query, description = "how far back values count"),
        ("statistic" = inline(Option<Statistic>), Query, description = "what is ranked by"),
        ("format" = inline(Option<FormatName>), Query, description = "json (default) or csv"),
        ("round" = Option<u8>, Query, maximum = 15, description = "digits after the decimal point, 0 to 15"),
    ),
    responses(
        (status = 200, description = "the ranking, with a strong ETag",
            content((MetricRanking = "application/json"), (String = "text/csv")),
            headers(
                ("X-Data-As-Of" = DateTime<Utc>, description = "everything that was counted until then is known to be in the answer"),
                ("X-Data-Stale" = bool, description = "true while the database or the consumer is away: newer values may be missing"),
            )),
        (status = 304, description = "the client has this state already (If-None-Match)"),
        (status = 400, description = "a parameter was refused", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "no or wrong key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such metric; names the known ones", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "too many requests", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one(
    _: Permit,
    request: HttpRequest,
    state: Data<State>,
    metric: Path<String>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&metric), Shape::Json)
}

/// One metric's ranking, under the shorter path.
#[utoipa::path(
    get, path = "/api/v1/rankings/{metric}", tag = "rankings", operation_id = "ranking_short_path",
    params(("metric" = inline(Text), Path, description = "the metric's title, in any case")),
    responses(
        (status = 200, description = "as /api/v1/benchmarks/rankings/{metric}, with the same parameters",
            content((MetricRanking = "application/json"), (String = "text/csv")),
            headers(
                ("X-Data-As-Of" = DateTime<Utc>, description = "everything that was counted until then is known to be in the answer"),
                ("X-Data-Stale" = bool, description = "true while the database or the consumer is away: newer values may be missing"),
            )),
        (status = 401, description = "no or wrong key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such metric", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn one_shorter(
    permit: Permit,
    request: HttpRequest,
    state: Data<State>,
    metric: Path<String>,
) -> Result<HttpResponse, Problem> {
    one(permit, request, state, metric).await
}

/// One metric's ranking as a plain array, for older clients.
#[utoipa::path(
    get, path = "/ranking/{metric}", tag = "rankings for older clients", operation_id = "plain_ranking",
    params(("metric" = inline(Text), Path, description = "the metric's title, in any case")),
    responses(
        (status = 200, description = "best first; the same parameters as the other rankings", body = Vec<PlainRow>,
            headers(
                ("X-Data-As-Of" = DateTime<Utc>, description = "everything that was counted until then is known to be in the answer"),
                ("X-Data-Stale" = bool, description = "true while the database or the consumer is away: newer values may be missing"),
            )),
        (status = 401, description = "no or wrong key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such metric", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn plain(
    _: Permit,
    request: HttpRequest,
    state: Data<State>,
    metric: Path<String>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&metric), Shape::Plain)
}

/// One metric's ranking with numbered rows, for older clients.
#[utoipa::path(
    get, path = "/api/v1/benchmark/{metric}", tag = "rankings for older clients", operation_id = "numbered_ranking",
    params(("metric" = inline(Text), Path, description = "the metric's title, in any case")),
    responses(
        (status = 200, description = "best first; the same parameters as the other rankings", body = NumberedRanking,
            headers(
                ("X-Data-As-Of" = DateTime<Utc>, description = "everything that was counted until then is known to be in the answer"),
                ("X-Data-Stale" = bool, description = "true while the database or the consumer is away: newer values may be missing"),
            )),
        (status = 401, description = "no or wrong key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "no such metric", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn numbered(
    _: Permit,
    request: HttpRequest,
    state: Data<State>,
    metric: Path<String>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&metric), Shape::Numbered)
}

fn serve(
    request: &HttpRequest,
    state: &State,
    metric: Option<&str>,
    shape: Shape,
) -> Result<HttpResponse, Problem> {
    let asked = if request.query_string().is_empty() {
        Asked {
            selection: state.default_selection,
            shape,
            rounding: None,
        }
    } else {
        Asked::read(request, state.default_selection, shape)?
    };
    // In this order: a confirmation that comes in between is of a later snapshot.
    let as_of = state.rankings.confirmed().header.clone();
    let snapshot = state.rankings.load();
    let title = metric.map(MetricTitle::new).transpose()?;
    let target = snapshot.target(title.as_ref()).map_err(Problem::unknown_metric)?;
    let Asked {
        selection,
        shape,
        rounding,
    } = asked;
    let content_type = content_type(shape);
    let answer = match rounding {
        None => ready_made(request, snapshot.body(selection, target, shape), content_type),
        Some(_) => {
            let body = Body::new(snapshot.render(selection, target, shape, rounding));
            ready_made(request, &body, content_type)
        }
    };
    Ok(with_freshness(answer, as_of, &snapshot))
}

fn content_type(shape: Shape) -> HeaderValue {
    match shape {
        Shape::Csv => CSV,
        Shape::Json | Shape::Plain | Shape::Numbered => JSON,
    }
}

struct Asked {
    selection: Selection,
    shape: Shape,
    rounding: Rounding,
}

impl Asked {
    fn read(request: &HttpRequest, default: Selection, shape: Shape) -> Result<Self, Problem> {
        const MOST_DIGITS: u8 = 15;
        let mut parameters = Parameters::of(request)?;
        let asked = Self {
            selection: Selection {
                source: parameters.take("source").unwrap_or(default.source),
                window: parameters.take("window").unwrap_or(default.window),
                statistic: parameters.take("statistic").unwrap_or(default.statistic),
            },
            shape: match parameters.take("format") {
                Some(Format::Csv) => Shape::Csv,
                Some(Format::Json) | None => shape,
            },
            rounding: parameters.take_as("round", "digits from 0 to 15", |digits| *digits <= MOST_DIGITS),
        };
        parameters.finish()?;
        Ok(asked)
    }
}

enum Format {
    Json,
    Csv,
}

impl std::str::FromStr for Format {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Invalid> {
        match raw {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(Invalid::new("format", raw, "json or csv")),
        }
    }
}
