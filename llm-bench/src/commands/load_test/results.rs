use std::{collections::HashMap, fs, path::Path};

use anyhow::Context as _;
use load_test::{
    correctness, html,
    plan::Workload,
    record::{Class, RequestRecord},
    report::{
        Report,
        llmperf::{self, CorrectnessAnswer, CorrectnessParameters, ResultFile},
    },
    workers::Merged,
    workload::PromptText,
};

use super::{
    Ready, eprint_line,
    options::LoadTest,
    run::{Ended, results_dir},
};
use crate::context::Context;

/// Writes the results directory's files, where there is one. `requests.jsonl` is there already.
pub(super) fn write(
    options: &LoadTest,
    context: &Context,
    ready: &Ready,
    ended: &Ended,
    report: &Report,
) -> anyhow::Result<()> {
    let now = context.clock.now().timestamp();
    let recorded = &ended.recorded;
    let page = ResultFile {
        name: "report.html".to_owned(),
        content: html::render(report, &recorded.records, recorded.started),
    };
    let mut files = vec![report_file(report)?, page];
    if ready.plan.workload == Workload::Correctness {
        files.extend(correctness_files(options, ready, ended, now)?);
    } else {
        files.extend(llmperf_files(ready, ended, now));
    }
    let Some(directory) = results_dir(options)? else {
        return Ok(());
    };
    for file in &files {
        write_file(directory, file)?;
    }
    Ok(())
}

/// The same of a run on several machines; individual responses stay with each worker.
pub(super) fn write_merged(
    options: &LoadTest,
    context: &Context,
    merged: &Merged,
    report: &Report,
) -> anyhow::Result<()> {
    let Some(directory) = results_dir(options)? else {
        return Ok(());
    };
    // Of an earlier run: what is per request stays with the workers.
    for name in ["run.json", "requests.jsonl", "published.jsonl", "report.html"] {
        let path = directory.join(name);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let now = context.clock.now().timestamp();
    write_file(directory, &report_file(report)?)?;
    write_file(directory, &merged.llmperf().summary(merged.plan(), now))
}

fn report_file(report: &Report) -> anyhow::Result<ResultFile> {
    Ok(ResultFile {
        name: "report.json".to_owned(),
        content: serde_json::to_string_pretty(report)? + "\n",
    })
}

fn write_file(directory: &Path, file: &ResultFile) -> anyhow::Result<()> {
    let path = directory.join(&file.name);
    fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))
}

fn llmperf_files(ready: &Ready, ended: &Ended, now: i64) -> [ResultFile; 2] {
    let counted = counted(ready, ended);
    let parameters = llmperf::Parameters::of(&ready.plan, counted, now);
    llmperf::files(&parameters, counted, |index| ended.recorded.errors.of(index))
}

/// The warm-up's requests are in no figure.
fn counted<'a>(ready: &Ready, ended: &'a Ended) -> &'a [RequestRecord] {
    let records = &ended.recorded.records;
    let warm = records.partition_point(|record| record.index < ready.plan.warmup_requests);
    &records[warm..]
}

fn correctness_files(
    options: &LoadTest,
    ready: &Ready,
    ended: &Ended,
    now: i64,
) -> anyhow::Result<[ResultFile; 2]> {
    let texts = ended
        .recorded
        .texts
        .texts()
        .collect::<Result<HashMap<_, _>, _>>()?;
    let requests = &ready.prepared.requests;
    let answers: Vec<CorrectnessAnswer<'_>> = counted(ready, ended)
        .iter()
        .filter_map(|record| {
            let asked = usize::try_from(record.index)
                .ok()
                .map(|index| &requests[index % requests.len()])?;
            let (PromptText::Text(prompt), Some(expected)) = (&asked.prompt, asked.expected) else {
                return None;
            };
            let text = texts.get(&record.index).map_or("", String::as_str);
            Some(CorrectnessAnswer {
                record,
                error: ended.recorded.errors.of(record.index),
                prompt,
                expected,
                text,
                passed: record.class == Class::Ok && correctness::is_correct(text, expected),
            })
        })
        .collect();
    let parameters = CorrectnessParameters {
        model: ready.plan.model.clone(),
        num_concurrent_requests: llmperf::Parameters::of(&ready.plan, &[], now).num_concurrent_requests,
        sampling: ready.plan.sampling.clone(),
        llm_api: options.llm_api.name.llmperf.to_owned(),
        metadata: ready.plan.metadata.clone(),
        timestamp_s: now,
    };
    let wrong = answers
        .iter()
        .filter(|answer| answer.record.class == Class::Ok && !answer.passed)
        .count();
    let answered = answers
        .iter()
        .filter(|answer| answer.record.class == Class::Ok)
        .count();
    eprint_line(&format!(
        "correctness: {wrong} of {answered} answers do not hold the number"
    ));
    Ok(llmperf::correctness_files(&parameters, &answers))
}
