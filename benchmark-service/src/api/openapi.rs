//! The OpenAPI document, collected from the handlers.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, HeaderBuilder, KnownFormat, ObjectBuilder, OpenApi as Document, Ref, RefOr,
        ResponseBuilder, SchemaFormat, Type,
        path::{Operation, ParameterIn},
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{batches, events, health, history, llms, metrics, pages, rankings};
use crate::problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "llm-bench",
        description = "Measurements of large language models, ranked with their uncertainty.\n\nReading needs a key with \
                       the scope `read` (unless the service allows anonymous reading), sending batches `write`, \
                       changing the registry `admin`; each scope includes the ones before it. Errors are \
                       `application/problem+json` (RFC 9457) everywhere. Trailing slashes are accepted.",
        license(name = "MIT", identifier = "MIT"),
    ),
    paths(
        rankings::all, rankings::one, rankings::one_shorter, rankings::plain, rankings::numbered, events::events,
        history::history, batches::list, batches::one, batches::submit,
        llms::list, llms::create, llms::update, llms::archive,
        metrics::list, metrics::create, metrics::update, metrics::archive,
        pages::status, pages::document, health::healthz, health::readyz, health::servingz, health::metrics,
    ),
    tags(
        (name = "rankings", description = "LLMs from best to worst, metric by metric"),
        (name = "rankings for older clients", description = "The same rankings in the forms that older clients read"),
        (name = "history", description = "Statistics over time"),
        (name = "batches", description = "The stored values, and the way in for new ones"),
        (name = "registry", description = "The LLMs and metrics that are known"),
        (name = "operation", description = "Health and description of the service; no key needed"),
    ),
    security(("api-key" = []), ("x-api-key" = []), ("bearer" = [])),
    components(schemas(problem::ProblemBody)),
    modifiers(&SecuritySchemes, &CommonResponses),
)]
pub(super) struct ApiDocument;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        for (name, header) in [("api-key", "api-key"), ("x-api-key", "X-API-KEY")] {
            let scheme = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(header)));
            components.add_security_scheme(name, scheme);
        }
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer);
    }
}

/// Adds the responses that follow from the kind of an operation, so that handlers need not repeat them.
struct CommonResponses;

impl Modify for CommonResponses {
    fn modify(&self, document: &mut Document) {
        for item in document.paths.paths.values_mut() {
            for (operation, writes) in [
                (&mut item.get, false),
                (&mut item.post, true),
                (&mut item.patch, true),
                (&mut item.delete, true),
            ] {
                if let Some(operation) = operation {
                    add_refusals(operation, writes);
                    add_freshness(operation);
                }
            }
        }
    }
}

/// An operation that needs a key may be refused without one and after too many requests; an operation that reads a part
/// of the request may refuse it. Every refusal has a problem as its body.
fn add_refusals(operation: &mut Operation, writes: bool) {
    let has_tag = |name: &str| operation.tags.iter().flatten().any(|tag| tag.starts_with(name));
    let security = operation.security.as_ref();
    let needs_key = !security.is_some_and(|ways| ways.contains(&SecurityRequirement::default()));
    let reads_parameters = operation.parameters.iter().flatten().any(
        |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in != ParameterIn::Header),
    );
    let reads_body = operation.request_body.is_some();
    let responses = &mut operation.responses.responses;
    for (applies, status, description) in [
        (needs_key, "401", "no or wrong key"),
        (needs_key, "429", "too many requests"),
        (
            writes && has_tag("registry"),
            "403",
            "the key lacks the scope admin",
        ),
        (needs_key && !has_tag("rankings"), "503", "the database is away"),
        (reads_parameters, "400", "a parameter was refused"),
        (reads_body, "400", "the body cannot be read"),
        (reads_body, "408", "the body did not arrive in time"),
        (reads_body, "413", "the body is too large"),
        (reads_body, "415", "not uncompressed JSON"),
        (reads_body, "422", "the content is not acceptable"),
    ] {
        if applies {
            let refusal = || ResponseBuilder::new().description(description).build().into();
            responses.entry(status.to_owned()).or_insert_with(refusal);
        }
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.as_str() >= "400"
            && response.content.is_empty()
        {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
            response
                .content
                .insert(problem::MEDIA_TYPE.to_owned(), problem.build().into());
        }
    }
}

/// Adds the headers of every ranking.
fn add_freshness(operation: &mut Operation) {
    let is_ranking = operation
        .operation_id
        .as_ref()
        .is_some_and(|id| id.contains("ranking"));
    let Some(RefOr::T(response)) = operation
        .responses
        .responses
        .get_mut("200")
        .filter(|_| is_ranking)
    else {
        return;
    };
    let date_time = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    for (name, schema, description) in [
        (
            "X-Data-As-Of",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(date_time)),
            "everything that was counted until then is known to be in the answer",
        ),
        (
            "X-Data-Stale",
            ObjectBuilder::new().schema_type(Type::Boolean),
            "true while the database or the consumer is away: newer values may be missing",
        ),
    ] {
        let header = HeaderBuilder::new()
            .schema(Some(schema))
            .description(Some(description));
        response.headers.insert(name.to_owned(), header.build().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    /// `UPDATE_OPENAPI=1 cargo test -p benchmark-service openapi` writes the file anew.
    #[test]
    fn the_committed_document_is_what_the_code_says() {
        let document = ApiDocument::openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(FILE, &document).unwrap();
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            committed == document,
            "openapi.json is out of date; run with UPDATE_OPENAPI=1 and look at the difference"
        );
    }

    #[test]
    fn it_is_openapi_3_1_and_every_operation_has_an_id_of_its_own() {
        let document = serde_json::to_value(ApiDocument::openapi()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids: Vec<_> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
        assert_eq!(all, 24);
    }
}
