use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use benchmark_service::{BodyFormat, RankingSelection, Settings as BenchmarkSettings, current_snapshot};
use load_test::http;
use serde_json::Value;
use shared_types::MetricTitle;
use tokio::task;
use url::Url;

use crate::{
    cli::{Format, Rankings},
    context::{Context, UsageError},
    say::say,
    table::table,
};

/// How long a running service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const COLUMNS: [&str; 12] = [
    "rank",
    "LLM",
    "source",
    "n",
    "mean",
    "95 % CI of the mean",
    "stddev",
    "p50",
    "p90",
    "p95",
    "p99",
    "updated",
];

const TEXT_COLUMNS: [&str; 3] = ["LLM", "source", "updated"];

pub(crate) async fn run(options: Rankings, context: Context) -> anyhow::Result<()> {
    let selection = selection(&options, &context)?;
    let metric = options
        .metric
        .as_deref()
        .map(MetricTitle::new)
        .transpose()
        .map_err(UsageError)?;
    let csv = options.format == Format::Csv;
    let body = match &options.url {
        Some(url) => fetch(url, selection, metric.as_ref(), csv, &context).await?,
        None => compute(selection, metric.as_ref(), csv, &context).await?,
    };
    match options.format {
        Format::Json | Format::Csv => say!("{}", String::from_utf8(body)?.trim_end()),
        Format::Table => show(&serde_json::from_slice(&body)?, metric.as_ref()),
    }
    Ok(())
}

fn selection(options: &Rankings, context: &Context) -> anyhow::Result<RankingSelection> {
    let default = BenchmarkSettings::read(&context.variables)
        .map_err(UsageError)?
        .default_selection;
    Ok(RankingSelection {
        source: match &options.source {
            Some(source) => source.parse().map_err(UsageError)?,
            None => default.source,
        },
        window: options.window.parse().map_err(UsageError)?,
        statistic: options.statistic.parse().map_err(UsageError)?,
    })
}

/// Computes the rankings from the database; the result equals the body that a service would send.
async fn compute(
    selection: RankingSelection,
    metric: Option<&MetricTitle>,
    csv: bool,
    context: &Context,
) -> anyhow::Result<Vec<u8>> {
    let storage = context.existing_storage().await?;
    let snapshot = current_snapshot(storage.as_ref(), context.clock.now())
        .await
        .context("the rankings cannot be computed")?;
    let format = if csv { BodyFormat::Csv } else { BodyFormat::Json };
    Ok(snapshot.render(selection, snapshot.target(metric)?, format, None))
}

async fn fetch(
    url: &str,
    selection: RankingSelection,
    metric: Option<&MetricTitle>,
    csv: bool,
    context: &Context,
) -> anyhow::Result<Vec<u8>> {
    let mut asked = Url::parse(url).with_context(|| format!("--url: {url} is not a URL"))?;
    {
        let Ok(mut path) = asked.path_segments_mut() else {
            bail!("--url: found {url}, expected http://host:port")
        };
        path.pop_if_empty()
            .extend(["api", "v1", "benchmarks", "rankings"])
            .extend(metric.map(MetricTitle::as_str));
    }
    asked
        .query_pairs_mut()
        .append_pair("source", selection.source.as_str())
        .append_pair("window", selection.window.as_str())
        .append_pair("statistic", selection.statistic.as_str())
        .append_pair("format", if csv { "csv" } else { "json" });
    let key = context.variables.secret("API_KEY", 1).map_err(UsageError)?;
    // Redirects are not followed: the key must not be sent to another service.
    let request = http::agent(TIMEOUT).get(asked.as_str());
    let request = match &key {
        Some(key) => request.header("X-API-KEY", key.expose()),
        None => request,
    };
    let answer = task::spawn_blocking(move || {
        let (head, body) = request.call()?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        Ok::<_, ureq::Error>((head.status, bytes))
    });
    let (status, body) = answer.await?.with_context(|| format!("no answer from {url}"))?;
    if !status.is_success() {
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!(
            "{url} answers {status}: {}",
            problem["detail"].as_str().unwrap_or("no detail")
        );
    }
    Ok(body)
}

/// Prints one table for each metric.
fn show(answer: &Value, metric: Option<&MetricTitle>) {
    let data = &answer["data"];
    match metric {
        Some(title) => show_metric(title.as_str(), data),
        None => {
            for (title, rows) in data
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .flatten()
            {
                show_metric(title, rows);
            }
        }
    }
    say!(
        "as of {}{}; LLMs whose intervals overlap share a rank",
        answer["as_of"].as_str().unwrap_or("now"),
        if answer["stale"] == true {
            " (stale: the service's database or consumer is away)"
        } else {
            ""
        }
    );
}

fn show_metric(title: &str, rows: &Value) {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    say!("{title}");
    if rows.is_empty() {
        say!("  no values yet\n");
        return;
    }
    let right_aligned: Vec<_> = COLUMNS
        .into_iter()
        .filter(|name| !TEXT_COLUMNS.contains(name))
        .collect();
    say!("{}\n", table(COLUMNS, &right_aligned, rows.iter().map(cells)));
}

fn cells(row: &Value) -> [String; 12] {
    let text = |field: &str| row[field].as_str().unwrap_or("–").to_owned();
    let number = |field: &str| short(&row[field]);
    [
        row["rank"].to_string(),
        text("llm"),
        text("source"),
        row["n"].to_string(),
        number("mean"),
        format!("{} – {}", short(&row["ci95"][0]), short(&row["ci95"][1])),
        number("stddev"),
        number("p50"),
        number("p90"),
        number("p95"),
        number("p99"),
        text("updated_at")
            .split('.')
            .next()
            .unwrap_or_default()
            .replace('T', " "),
    ]
}

/// Formats five significant digits; `--format json` has all digits.
fn short(number: &Value) -> String {
    const DIGITS: i32 = 5;
    let Some(number) = number.as_f64() else {
        return "–".to_owned();
    };
    if number == 0.0 || !(1e-4..1e9).contains(&number.abs()) {
        return format!("{number:.4e}");
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a double is small")]
    let before_the_point = number.abs().log10().floor() as i32 + 1;
    let after = usize::try_from(DIGITS - before_the_point).unwrap_or(0);
    format!("{number:.after$}")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpListener,
        thread,
    };

    use service_runtime::settings::Variables;

    use super::*;

    #[tokio::test]
    async fn the_key_does_not_follow_a_redirect() {
        let asked = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", asked.local_addr().unwrap());
        let location = other.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut connection, _) = asked.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                connection.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: http://{location}/\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        let set = [("DATA_DIR", "/unused"), ("API_KEY", "canary-canary-canary")];
        let variables = Variables::from_map(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let context = Context::from_variables(variables.unwrap()).unwrap();

        let refused = fetch(&url, RankingSelection::default(), None, false, &context)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("302 Found"), "{refused}");
        assert!(server.join().unwrap().contains("canary-canary-canary"));
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn numbers_are_shortened_to_five_digits() {
        let shown = |number: f64| short(&Value::from(number));
        assert_eq!(shown(1.314_910_917), "1.3149");
        assert_eq!(shown(0.147_520_434), "0.14752");
        assert_eq!(shown(123_456.7), "123457");
        assert_eq!(shown(0.0), "0.0000e0");
        assert_eq!(short(&Value::Null), "–");
    }
}
