//! Logging to a server that answers as a test wants it to. What MLflow itself makes of the requests is in `tests/tracking`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::scripted_server::{Request, ScriptedServer, answer};

fn tracked() -> TrackedRun {
    TrackedRun {
        experiment: "latency & more".to_owned(),
        run_name: Some("first".to_owned()),
        tags: BTreeMap::new(),
        params: BTreeMap::from([("model".to_owned(), "llama".to_owned())]),
        metrics: BTreeMap::from([("ttft_s.p50".to_owned(), 0.25)]),
        started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
        ended_at: "2026-11-22T12:01:30Z".parse().unwrap(),
        ok: true,
    }
}

fn variables<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    let found = |name: &str| set.iter().find(|(variable, _)| *variable == name);
    move |name| found(name).map(|(_, value)| (*value).to_owned())
}

fn server(url: &str) -> TrackingServer {
    TrackingServer::from_vars(variables(&[("MLFLOW_TRACKING_URI", url)])).unwrap()
}

fn accepts(body: &Value) -> String {
    answer("200 OK", "content-type: application/json\r\n", &body.to_string())
}

fn refuses(status: &str, code: &str, message: &str) -> String {
    answer(
        status,
        "",
        &json!({ "error_code": code, "message": message }).to_string(),
    )
}

fn experiment(stage: &str) -> String {
    accepts(&json!({ "experiment": { "experiment_id": "7", "name": "x", "lifecycle_stage": stage } }))
}

fn run(artifact_uri: &str) -> String {
    accepts(&json!({ "run": { "info": { "run_id": "abc", "artifact_uri": artifact_uri } } }))
}

fn done() -> String {
    accepts(&json!({}))
}

fn report() -> Vec<Artifact> {
    vec![Artifact {
        name: "report.json".to_owned(),
        content: b"{}".to_vec(),
    }]
}

fn target(request: &Request) -> &str {
    request.head.lines().next().unwrap().trim_end_matches(" http/1.1")
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

/// An error as it is told: with its causes.
fn told(error: &TrackingError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

#[test]
fn a_run_is_logged_with_its_files() {
    let answers = [
        refuses("404 NOT FOUND", "RESOURCE_DOES_NOT_EXIST", "no such experiment"),
        accepts(&json!({ "experiment_id": "7" })),
        run("mlflow-artifacts:/7/abc/artifacts"),
        done(),
        done(),
        done(),
        done(),
    ];
    let scripted = ScriptedServer::start(answers);
    let base = format!("{}/behind/a/proxy", scripted.url);
    let logged = server(&base).log(&tracked(), &report()).unwrap();
    let expected = LoggedRun {
        experiment_id: "7".to_owned(),
        run_id: "abc".to_owned(),
        page: format!("{base}/#/experiments/7/runs/abc"),
        artifacts: ArtifactUpload::All,
    };
    assert_eq!(logged, expected);

    let requests = scripted.requests();
    let api = "/behind/a/proxy/api/2.0";
    let targets: Vec<&str> = requests.iter().map(target).collect();
    assert_eq!(
        targets,
        [
            format!("get {api}/mlflow/experiments/get-by-name?experiment_name=latency+%26+more"),
            format!("post {api}/mlflow/experiments/create"),
            format!("post {api}/mlflow/runs/create"),
            format!("post {api}/mlflow/runs/log-batch"),
            format!("post {api}/mlflow/runs/log-batch"),
            format!("put {api}/mlflow-artifacts/artifacts/7/abc/artifacts/report.json"),
            format!("post {api}/mlflow/runs/update"),
        ]
    );
    assert_eq!(
        body(&requests[2]),
        json!({
            "experiment_id": "7",
            "run_name": "first",
            "start_time": 1_795_348_800_000_i64,
            "tags": [{ "key": "mlflow.runName", "value": "first" }],
        })
    );
    let metric = json!({ "key": "ttft_s.p50", "value": 0.25, "timestamp": 1_795_348_890_000_i64, "step": 0 });
    assert_eq!(body(&requests[4])["metrics"], json!([metric]));
    let ended = json!({ "run_id": "abc", "status": "FINISHED", "end_time": 1_795_348_890_000_i64 });
    assert_eq!(body(&requests[6]), ended);
    assert!(
        requests
            .iter()
            .all(|request| !request.head.contains("authorization"))
    );
}

#[test]
fn a_server_that_takes_no_files_says_where_they_would_go() {
    for place in [
        "s3://bucket/7/abc/artifacts",
        "mlflow-artifacts://elsewhere/7/abc",
    ] {
        let scripted = ScriptedServer::start([experiment("active"), run(place), done(), done(), done()]);
        let logged = server(&scripted.url).log(&tracked(), &report()).unwrap();
        let artifact_uri = place.to_owned();
        assert_eq!(logged.artifacts, ArtifactUpload::NotProxied { artifact_uri });
        let requests = scripted.requests();
        assert!(requests.iter().all(|request| !target(request).starts_with("put")));
    }
}

#[test]
fn an_experiment_that_another_run_made_in_between_is_taken() {
    let scripted = ScriptedServer::start([
        refuses("404 NOT FOUND", "RESOURCE_DOES_NOT_EXIST", "none"),
        refuses("400 BAD REQUEST", "RESOURCE_ALREADY_EXISTS", "there is one"),
        experiment("active"),
        run("s3://bucket"),
        done(),
        done(),
        done(),
    ]);
    let logged = server(&scripted.url).log(&tracked(), &[]).unwrap();
    assert_eq!(logged.experiment_id, "7");
    scripted.requests();
}

#[test]
fn a_deleted_experiment_is_not_written_to() {
    let scripted = ScriptedServer::start([experiment("deleted")]);
    let error = server(&scripted.url).log(&tracked(), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MLflow: the experiment \"latency & more\" is deleted; restore it (mlflow experiments restore --experiment-id 7) or \
         choose another --ml-repo"
    );
    scripted.requests();
}

#[test]
fn a_run_that_cannot_be_filled_is_ended_as_failed() {
    let scripted = ScriptedServer::start([
        experiment("active"),
        run("s3://bucket"),
        refuses(
            "400 BAD REQUEST",
            "INVALID_PARAMETER_VALUE",
            "Invalid value for parameter",
        ),
        done(),
    ]);
    let error = server(&scripted.url).log(&tracked(), &[]).unwrap_err();
    let (url, told) = (scripted.url.clone(), told(&error));
    let expected = format!(
        "logging parameters and figures: {url}/ answers 400 Bad Request: Invalid value for parameter"
    );
    assert!(told.ends_with(&expected), "{told}");
    assert_eq!(body(&scripted.requests()[3])["status"], "FAILED");
}

#[test]
fn what_is_no_tracking_server_is_told() {
    let away = "location: https://login.example.com/\r\n";
    for (answer, expected) in [
        (
            answer("200 OK", "", "<html>"),
            "is it a tracking server?: expected value",
        ),
        (
            answer("404 Not Found", "", "<h1>Not Found</h1>"),
            "404 Not Found: <h1>Not Found</h1>",
        ),
        (
            answer("401 Unauthorized", "", "who?"),
            "asks for other credentials: MLFLOW_TRACKING_USERNAME",
        ),
        (
            answer("302 Found", away, ""),
            "302 Found: it points to https://login.example.com/;",
        ),
        (answer("502 Bad Gateway", "", ""), "502 Bad Gateway: no message"),
    ] {
        let scripted = ScriptedServer::start([answer]);
        let error = server(&scripted.url).log(&tracked(), &[]).unwrap_err();
        let told = told(&error);
        assert!(told.contains("MLflow, looking up the experiment: "), "{told}");
        assert!(told.contains(expected), "{told}");
        scripted.requests();
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    // Nothing listens on tcpmux, and no test takes a port of the privileged.
    let url = "http://127.0.0.1:1";
    let error = server(url).log(&tracked(), &[]).unwrap_err();
    let told = told(&error);
    assert!(
        told.starts_with(&format!(
            "MLflow, looking up the experiment: no answer from {url}/: "
        )),
        "{told}"
    );
    assert!(told.contains("Connection refused"), "{told}");
}

#[test]
fn credentials_go_along_and_are_never_told() {
    let basic = "authorization: basic ywxpy2u6c2vjcmv0"; // alice:secret, and all heads are in lower case here
    let login = [
        ("MLFLOW_TRACKING_USERNAME", "alice"),
        ("MLFLOW_TRACKING_PASSWORD", "secret"),
    ];
    let token = [("MLFLOW_TRACKING_TOKEN", "secret")];
    for (in_address, others, expected) in [
        ("", login.as_slice(), basic),
        ("", &token, "authorization: bearer secret"),
        ("", &[login[0], login[1], token[0]], basic),
        ("alice:secret@", &[], basic),
    ] {
        let scripted = ScriptedServer::start([refuses("403 Forbidden", "PERMISSION_DENIED", "not you")]);
        let uri = scripted.url.replace("://", &format!("://{in_address}"));
        let set: Vec<_> = others
            .iter()
            .copied()
            .chain([("MLFLOW_TRACKING_URI", uri.as_str())])
            .collect();
        let server = TrackingServer::from_vars(variables(&set)).unwrap();
        let error = server.log(&tracked(), &[]).unwrap_err();
        let told = format!("{} {error:?} {server:?}", told(&error));
        assert!(told.contains("not you") && !told.contains("secret"), "{told}");
        let head = &scripted.requests()[0].head;
        assert!(head.contains(expected), "{head}");
    }
}

#[test]
fn settings_that_name_no_server_are_refused() {
    let address = |uri| [("MLFLOW_TRACKING_URI", uri)];
    for (set, expected) in [
        ([].as_slice(), "MLFLOW_TRACKING_URI: found nothing"),
        (&address(" "), "MLFLOW_TRACKING_URI: found nothing"),
        (
            &address("databricks"),
            "MLFLOW_TRACKING_URI: found no URL (relative URL without a base)",
        ),
        (
            &address("sqlite:///x.db"),
            "MLFLOW_TRACKING_URI: found a URL that begins with sqlite:",
        ),
        (
            &[
                ("MLFLOW_TRACKING_URI", "http://x"),
                ("MLFLOW_TRACKING_USERNAME", "alice"),
            ],
            "MLFLOW_TRACKING_PASSWORD: found nothing",
        ),
        (
            &[
                ("MLFLOW_TRACKING_URI", "http://x"),
                ("MLFLOW_TRACKING_PASSWORD", "secret"),
            ],
            "MLFLOW_TRACKING_USERNAME: found nothing",
        ),
    ] {
        let error = TrackingServer::from_vars(variables(set)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
