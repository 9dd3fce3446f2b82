use crate::process::{Process, program, run};

#[tokio::test]
async fn the_mock_server_serves_until_it_is_told_to_stop() {
    let mut command = program("llm-bench");
    command.args([
        "mock-llm",
        "--ttft",
        "0.001",
        "--itl",
        "0",
        "--output-tokens",
        "3",
    ]);
    let (process, mut lines) = Process::speaking(command);
    let curl = lines.find(|line| line.starts_with("try: curl")).unwrap();
    let url = curl
        .split_whitespace()
        .find(|word| word.starts_with("http"))
        .unwrap();
    // As the line to copy has it: curl states no content type that matters.
    let body = curl.split('\'').nth(1).unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .post(url)
        .body(body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(answer.ends_with("data: [DONE]\n\n"), "{answer}");
    process.stop();
    let said: Vec<_> = lines.collect();
    assert_eq!(
        said.first().unwrap(),
        "1 requests, 3 tokens, 0 left before their end"
    );
    assert!(
        said.iter().any(|line| line.starts_with("all tokens: late by")),
        "{said:?}"
    );
}

#[test]
fn the_mock_servers_help_names_every_misbehaviour_and_refusals_say_what_is_expected() {
    let with = |argument: &[&str]| {
        let mut command = program("llm-bench");
        command.arg("mock-llm").args(argument);
        run(command)
    };
    let help = String::from_utf8(with(&["--help"]).stdout).unwrap();
    for each in mock_llm::Misbehaviour::ALL {
        let described = help.lines().any(|line| {
            line.trim_start().starts_with(&format!("- {each}:")) && line.contains(each.description())
        });
        assert!(described, "{each} in {help}");
    }
    for (argument, expected) in [
        (
            ["--ttft", "soon"],
            "expected a number of seconds, 0 or more, such as 0.2",
        ),
        (["--error-429", "2"], "expected a number from 0 to 1"),
        (["--misbehaviour", "politely"], "possible values: split-utf8"),
    ] {
        let refused = with(&argument);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
