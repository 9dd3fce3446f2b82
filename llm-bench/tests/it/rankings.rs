use std::collections::BTreeMap;

use reqwest::Client;
use serde_json::Value;

/// A client of the API.
pub(crate) struct Api {
    pub url: String,
    key: Option<String>,
    client: Client,
}

/// A row of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub llm: String,
    pub n: u64,
    pub mean: f64,
    pub rank: u64,
}

impl Api {
    pub(crate) fn open(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            key: None,
            // A connection for each request: the service at the other end may be another one by then.
            client: Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn with_key(url: &str, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..Self::open(url)
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("X-API-KEY", key);
        }
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, answer.json().await.unwrap_or(Value::Null))
            }
            Err(_unreachable) => (0, Value::Null),
        }
    }

    /// The body of the response as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let answer = request.send().await.unwrap();
        format!("{:?}\n{}", answer.headers().clone(), answer.text().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.url)).json(body);
        if let Some(key) = &self.key {
            request = request.header("X-API-KEY", key);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// The rankings by metric; empty while there are none.
    pub(crate) async fn rankings(&self, query: &str) -> BTreeMap<String, Vec<Row>> {
        let (_, answer) = self.get(&format!("/api/v1/benchmarks/rankings?{query}")).await;
        let metrics = answer["data"].as_array().cloned().unwrap_or_default();
        metrics
            .iter()
            .filter_map(Value::as_object)
            .flatten()
            .map(|(metric, rows)| (metric.clone(), rows.as_array().unwrap().iter().map(row).collect()))
            .collect()
    }

    /// The number of values in all rankings.
    pub(crate) async fn values(&self, query: &str) -> u64 {
        self.rankings(query)
            .await
            .values()
            .flatten()
            .map(|row| row.n)
            .sum()
    }

    /// Every stored batch with its values.
    pub(crate) async fn batches(&self) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = self
                .get(&format!("/api/v1/batches?limit=500&values=true{cursor}"))
                .await;
            assert_eq!(status, 200, "{page}");
            all.extend(page["data"].as_array().unwrap().clone());
            match page["page"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

fn row(row: &Value) -> Row {
    Row {
        llm: row["llm"].as_str().unwrap().to_owned(),
        n: row["n"].as_u64().unwrap(),
        mean: row["mean"].as_f64().unwrap(),
        rank: row["rank"].as_u64().unwrap(),
    }
}
