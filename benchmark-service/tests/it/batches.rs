use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::app::{ADMIN, TestApp, batch, problem};

const PATH: &str = "/api/v1/batches";

async fn accepted(response: Response) -> Vec<(String, String)> {
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = answer["data"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["id"]), text(&row["outcome"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_is_counted_once_however_often_it_is_sent() {
    let app = TestApp::start().await;
    let batches = json!([
        batch("GPT-4o", "ttft", &[1.0, 2.0]),
        batch("GPT-4o", "tps", &[50.0])
    ]);
    let first = accepted(app.send(Method::POST, PATH, &batches).await).await;
    let again = accepted(app.send(Method::POST, PATH, &batches).await).await;
    assert_eq!(
        first
            .iter()
            .map(|(_, outcome)| outcome.as_str())
            .collect::<Vec<_>>(),
        ["stored", "stored"]
    );
    assert!(
        first
            .iter()
            .zip(&again)
            .all(|(a, b)| a.0 == b.0 && b.1 == "already_stored"),
        "{again:?}"
    );
    app.until_counted("GPT-4o", "ttft", 2).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_names_the_request() {
    let app = TestApp::start().await;
    let send = async |key: &str, values: &[f64]| {
        let request = app.request(Method::POST, PATH).header("api-key", ADMIN);
        let request = request
            .header("Idempotency-Key", key)
            .json(&batch("GPT-4o", "ttft", values));
        request.send().await.unwrap()
    };
    let first = accepted(send("one", &[1.0]).await).await;
    assert_eq!(
        accepted(send("one", &[1.0]).await).await[0],
        (first[0].0.clone(), "already_stored".to_owned())
    );
    assert_eq!(
        accepted(send("two", &[1.0]).await).await[0].1,
        "stored",
        "the same content, sent on purpose"
    );
    problem(send("one", &[3.0]).await, 409).await;
    problem(send("", &[1.0]).await, 400).await;
    app.until_counted("GPT-4o", "ttft", 2).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_batches_are_named_and_the_others_stored() {
    let app = TestApp::start().await;
    let batches = json!([batch("GPT-4o", "ttft", &[1.0]), batch("GPT-4o", "speed", &[1.0])]);
    let refused = problem(app.send(Method::POST, PATH, &batches).await, 422).await;
    insta::assert_json_snapshot!("refused_batches", refused);
    app.until_counted("GPT-4o", "ttft", 1).await;

    let empty = batch("GPT-4o", "ttft", &[]);
    let told = problem(app.send(Method::POST, PATH, &json!([empty])).await, 422).await;
    assert_eq!(told["errors"][0]["field"], "[0].values");
    problem(app.send(Method::POST, PATH, &json!([])).await, 422).await;
    problem(app.send(Method::POST, PATH, &json!({"llm_name": 1})).await, 400).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_pages_from_the_newest_to_the_oldest() {
    let app = TestApp::start().await;
    join_all((0..40).map(|minute| {
        let metric = if minute % 2 == 0 { "ttft" } else { "tps" };
        let mut one = batch("GPT-4o", metric, &[f64::from(minute)]);
        one["timestamp"] = format!("2026-05-01T11:{minute:02}:00Z").into();
        app.publish(one.to_string())
    }))
    .await;
    let (mut seen, mut path) = (Vec::new(), format!("{PATH}?limit=17&values=true"));
    loop {
        let page = app.get_json(&path).await;
        let rows = page["data"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["values"][0].as_f64().unwrap()));
        match page["page"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("{PATH}?limit=17&values=true&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..40).rev().map(f64::from).collect::<Vec<_>>());

    let filtered = app
        .get_json(&format!("{PATH}?metric=TPS&llm=GPT-4o&source=simulated&limit=2"))
        .await;
    let rows = filtered["data"].as_array().unwrap();
    assert!(
        rows.len() == 2
            && rows
                .iter()
                .all(|row| row["metric"] == "tps" && row.get("values").is_none())
    );
    let id = rows[0]["id"].as_str().unwrap();
    insta::assert_json_snapshot!("batch", app.get_json(&format!("{PATH}/{id}?values=true")).await);

    problem(
        app.get(&format!("{PATH}/00000000-0000-7000-8000-000000000000"))
            .await,
        404,
    )
    .await;
    for refused in [
        "?limit=0",
        "?limit=501",
        "?cursor=x",
        "?values=maybe",
        "?source=all",
        "/x",
        "/%00",
    ] {
        problem(app.get(&format!("{PATH}{refused}")).await, 400).await;
    }
    app.end().await;
}
