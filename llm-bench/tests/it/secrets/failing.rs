//! What programs say that cannot do what they should.

use test_servers::{shared_postgres, shared_rabbitmq};

use super::{
    API_KEY, BROKER_PASSWORD, CANARIES, DATABASE_PASSWORD, Said, WRONG_KEY, command, with_credentials,
};

/// Passwords that servers refuse, servers that are away, and URLs that are none: what it is, and both URLs.
async fn unusable_urls() -> [(&'static str, (String, String)); 6] {
    let (postgres, rabbitmq) = (shared_postgres().await, shared_rabbitmq().await);
    let refused = (
        with_credentials(postgres.url(), "canary", DATABASE_PASSWORD),
        with_credentials(rabbitmq.amqp_url(), "canary", BROKER_PASSWORD),
    );
    let place = format!("canary:{DATABASE_PASSWORD}@127.0.0.1");
    let amqp_place = format!("canary:{BROKER_PASSWORD}@127.0.0.1");
    [
        ("refused", refused),
        (
            "away",
            (
                format!("postgres://{place}:1/x"),
                format!("amqp://{amqp_place}:1/%2f"),
            ),
        ),
        (
            "another scheme",
            (format!("mysql://{place}/x"), format!("http://{amqp_place}")),
        ),
        (
            "no port",
            (
                format!("postgres://{place}:port/x"),
                format!("amqp://{amqp_place}:port"),
            ),
        ),
        (
            "no URL",
            (format!("postgres:{place}"), format!("amqp:{amqp_place}")),
        ),
        (
            "an option",
            (
                format!("postgres://{place}:1/x?sslmode=y"),
                format!("amqp://{amqp_place}:1/%2f?x=y"),
            ),
        ),
    ]
}

#[tokio::test]
async fn failing_programs_keep_their_secrets() {
    let cases = unusable_urls().await;
    let mut said = Said::default();
    // Side by side: most of them wait for servers that never come.
    std::thread::scope(|scope| {
        let asking: Vec<_> = cases
            .iter()
            .flat_map(|case| ["doctor", "migrate", "rankings"].map(|argument| (case, argument)))
            .map(|((what, (database, amqp)), argument)| {
                scope.spawn(move || {
                    let mut asked = command("llm-bench", database, amqp);
                    asked.arg(argument).env("MAX_RETRIES", "0");
                    let mut said = Said::default();
                    said.note_run(&format!("{argument} with {what}"), asked);
                    said
                })
            })
            .collect();
        let broken = |name: &str, value: &str| {
            let mut asked = command("llm-bench", "sqlite::memory:", "");
            asked.arg("doctor").env(name, value);
            asked
        };
        said.note_run("a misspelt variable", broken("API_KEYS", API_KEY));
        said.note_run("a short pepper", broken("API_KEY_PEPPER", &WRONG_KEY[..12]));
        said.note_run("an address", broken("HTTP_ADDR", "nowhere"));
        for name in ["llm-bench", "simulation-service", "benchmark-service"] {
            let mut help = command(name, &cases[1].1.0, &cases[1].1.1);
            // A service takes no options: it stops at its address.
            help.arg("--help")
                .env("HTTP_ADDR", "nowhere")
                .env("SIMULATION_HTTP_ADDR", "nowhere");
            said.note_run(&format!("{name} --help"), help);
        }
        for asked in asking {
            said.0.extend(asked.join().unwrap().0);
        }
    });
    assert_eq!(said.0.len(), 2 * (18 + 3 + 3));
    said.assert_silent_about(&CANARIES);
    said.assert_silent_about(&[&WRONG_KEY[..12]]);
}
