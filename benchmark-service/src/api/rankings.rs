//! The rankings, from the snapshot: no lock, no query, and each body is serialised once.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use shared_types::MetricTitle;

use super::{
    State,
    request::Parameters,
    response::{CSV, JSON, prepared_body, with_freshness_headers},
    schemas::MetricPath,
};
use crate::{
    auth::{Authorized, ReadRankings},
    choice::choice,
    problem::Problem,
    snapshot::{
        AllRankings, Body, BodyFormat, MetricRanking, NumberedRanking, PlainRow, RankingSelection,
        SourceFilter, Statistic, TimeWindow,
    },
};

/// Every metric's ranking.
#[utoipa::path(
    get, path = "/api/v1/benchmarks/rankings", tag = "rankings", operation_id = "rankings",
    params(RankingParameters),
    responses(
        (status = 200, description = "the rankings, with a strong ETag",
            content((AllRankings = "application/json"), (String = "text/csv"))),
        (status = 304, description = "the client has this state already (If-None-Match)"),
    ),
)]
pub(super) async fn all(
    _: Authorized<ReadRankings>,
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, None, BodyFormat::Json)
}

/// One metric's ranking. A metric without values yet has an empty list.
#[utoipa::path(
    get, path = "/api/v1/benchmarks/rankings/{metric}", tag = "rankings", operation_id = "ranking",
    params(MetricPath, RankingParameters),
    responses(
        (status = 200, description = "the ranking, with a strong ETag",
            content((MetricRanking = "application/json"), (String = "text/csv"))),
        (status = 304, description = "the client has this state already (If-None-Match)"),
        (status = 404, description = "no such metric; names the known ones"),
    ),
)]
pub(super) async fn one(
    _: Authorized<ReadRankings>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<MetricPath>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&path.metric), BodyFormat::Json)
}

/// One metric's ranking, under the shorter path.
#[utoipa::path(
    get, path = "/api/v1/rankings/{metric}", tag = "rankings", operation_id = "ranking_short_path",
    params(MetricPath),
    responses(
        (status = 200, description = "as /api/v1/benchmarks/rankings/{metric}, with the same parameters",
            content((MetricRanking = "application/json"), (String = "text/csv"))),
        (status = 404, description = "no such metric"),
    ),
)]
pub(super) async fn one_shorter(
    permit: Authorized<ReadRankings>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<MetricPath>,
) -> Result<HttpResponse, Problem> {
    one(permit, request, state, path).await
}

/// One metric's ranking as a plain array, for older clients.
#[utoipa::path(
    get, path = "/ranking/{metric}", tag = "rankings for older clients", operation_id = "plain_ranking",
    params(MetricPath),
    responses(
        (status = 200, description = "best first; the same parameters as the other rankings", body = Vec<PlainRow>),
        (status = 404, description = "no such metric"),
    ),
)]
pub(super) async fn plain(
    _: Authorized<ReadRankings>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<MetricPath>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&path.metric), BodyFormat::Plain)
}

/// One metric's ranking with numbered rows, for older clients.
#[utoipa::path(
    get, path = "/api/v1/benchmark/{metric}", tag = "rankings for older clients", operation_id = "numbered_ranking",
    params(MetricPath),
    responses(
        (status = 200, description = "best first; the same parameters as the other rankings", body = NumberedRanking),
        (status = 404, description = "no such metric"),
    ),
)]
pub(super) async fn numbered(
    _: Authorized<ReadRankings>,
    request: HttpRequest,
    state: Data<State>,
    path: Path<MetricPath>,
) -> Result<HttpResponse, Problem> {
    serve(&request, &state, Some(&path.metric), BodyFormat::Numbered)
}

fn serve(
    request: &HttpRequest,
    state: &State,
    metric: Option<&str>,
    body_format: BodyFormat,
) -> Result<HttpResponse, Problem> {
    let parameters = RankingParameters::read(request)?;
    let selection = parameters.selection(state.default_selection);
    let body_format = match parameters.format {
        Some(Format::Csv) => BodyFormat::Csv,
        Some(Format::Json) | None => body_format,
    };
    // Before the snapshot is loaded: a confirmation that comes in between may belong to a later snapshot.
    let as_of = state.rankings.confirmed().header.clone();
    let snapshot = state.rankings.load();
    let title = metric.map(MetricTitle::new).transpose()?;
    let target = snapshot.target(title.as_ref()).map_err(Problem::unknown_metric)?;
    let content_type = match body_format {
        BodyFormat::Csv => CSV,
        BodyFormat::Json | BodyFormat::Plain | BodyFormat::Numbered => JSON,
    };
    let response = match parameters.round {
        None => prepared_body(
            request,
            snapshot.body(selection, target, body_format),
            content_type,
        ),
        Some(_) => {
            let body = Body::new(snapshot.render(selection, target, body_format, parameters.round));
            prepared_body(request, &body, content_type)
        }
    };
    Ok(with_freshness_headers(response, as_of, &snapshot))
}

/// The query parameters of a ranking.
#[derive(Default, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RankingParameters {
    /// whose values; the service's default where it is not given
    #[param(inline)]
    source: Option<SourceFilter>,
    /// how far back values count (default all)
    #[param(inline)]
    window: Option<TimeWindow>,
    /// what is ranked by (default mean)
    #[param(inline)]
    statistic: Option<Statistic>,
    /// json (default) or csv
    #[param(inline)]
    format: Option<Format>,
    /// digits after the decimal point, 0 to 15; without it numbers keep full precision
    #[param(maximum = 15)]
    round: Option<u8>,
}

impl RankingParameters {
    const MAX_DIGITS: u8 = 15;

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        if request.query_string().is_empty() {
            return Ok(Self::default());
        }
        let mut parameters = Parameters::of(request)?;
        let read = Self {
            source: parameters.take("source"),
            window: parameters.take("window"),
            statistic: parameters.take("statistic"),
            format: parameters.take("format"),
            round: parameters.take_as("round", "digits from 0 to 15", |digits| {
                *digits <= Self::MAX_DIGITS
            }),
        };
        parameters.finish()?;
        Ok(read)
    }

    fn selection(&self, default: RankingSelection) -> RankingSelection {
        RankingSelection {
            source: self.source.unwrap_or(default.source),
            window: self.window.unwrap_or(default.window),
            statistic: self.statistic.unwrap_or(default.statistic),
        }
    }
}

choice!(
    /// The form of a ranking.
    Format, "format", "json or csv", default Json,
    /// The API's own.
    Json = "json",
    /// Comma-separated values.
    Csv = "csv"
);
