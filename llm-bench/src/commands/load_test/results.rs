use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use load_test::{
    correctness, html,
    journal::{ErrorMessages, REQUESTS_FILE, RequestLine},
    merge::Merged,
    plan::{Plan, Workload},
    publish::{RUN_FILE, RunFile},
    record::{Class, RequestRecord},
    report::{
        Report,
        llmperf::{self, CorrectnessAnswer, CorrectnessParameters, ResultFile},
    },
    share_file::{SHARE_FILE, ShareFile},
    workload::PromptText,
};
use precise_time::MonotonicTime;

use super::{
    options::LoadTest, prepare::PreparedRun, results_dir::results_dir, run::CompletedRun, terminal::note,
};
use crate::context::Context;

/// Writes the results directory's files, where there is one. `requests.jsonl` is there already.
pub(super) fn write(
    options: &LoadTest,
    context: &Context,
    prepared: &PreparedRun,
    run: &CompletedRun,
    report: &Report,
    share_file: Option<&ShareFile>,
) -> anyhow::Result<()> {
    let now = context.clock.now().timestamp();
    let recorded = &run.recorded;
    let page = page(report, &recorded.records, recorded.started);
    let mut files = vec![report_file(report)?, page];
    if prepared.plan.workload == Workload::Correctness {
        files.extend(correctness_files(options, prepared, run, now)?);
    } else {
        files.extend(llmperf_files(
            &prepared.plan,
            &recorded.records,
            &recorded.errors,
            now,
        ));
    }
    // Last: where it is, all others are.
    files.extend(share_file.map(share_file_of).transpose()?);
    let Some(directory) = results_dir(options)? else {
        return Ok(());
    };
    for file in &files {
        write_file(directory, file)?;
    }
    Ok(())
}

/// Writes the files of a run that was merged from its shares, and those that publishing needs where no share is missing.
pub(super) fn write_merged(merged: &Merged, now: DateTime<Utc>, directory: &Path) -> anyhow::Result<()> {
    let (plan, report) = (merged.plan(), &merged.report);
    let run = RunFile {
        run_id: report.run_id.clone(),
        started_at: report.started_at,
        plan: plan.clone(),
        share: None,
        batches_dated: Some(merged.ended_at),
    };
    run.write(directory)?;
    if !merged.is_complete {
        let path = directory.join(RUN_FILE);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let path = directory.join(REQUESTS_FILE);
    write_requests(merged, &path).with_context(|| format!("cannot write {}", path.display()))?;
    write_file(directory, &report_file(report)?)?;
    write_file(directory, &page(report, &merged.records, merged.started))?;
    for file in llmperf_files(plan, &merged.records, &merged.errors, now.timestamp()) {
        write_file(directory, &file)?;
    }
    Ok(())
}

/// Writes the requests in the order in which they ended.
fn write_requests(merged: &Merged, path: &Path) -> anyhow::Result<()> {
    let mut records: Vec<_> = merged.records.iter().collect();
    records.sort_by_key(|record| (record.closed, record.index));
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        let line = RequestLine::new(record, merged.errors.of(record.index), merged.started);
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

fn page(report: &Report, records: &[RequestRecord], started: MonotonicTime) -> ResultFile {
    ResultFile {
        name: "report.html".to_owned(),
        content: html::render(report, records, started),
    }
}

fn report_file(report: &Report) -> anyhow::Result<ResultFile> {
    Ok(ResultFile {
        name: "report.json".to_owned(),
        content: serde_json::to_string_pretty(report)? + "\n",
    })
}

fn share_file_of(share: &ShareFile) -> anyhow::Result<ResultFile> {
    Ok(ResultFile {
        name: SHARE_FILE.to_owned(),
        content: serde_json::to_string_pretty(share)? + "\n",
    })
}

fn write_file(directory: &Path, file: &ResultFile) -> anyhow::Result<()> {
    let path = directory.join(&file.name);
    fs::write(&path, &file.content).with_context(|| format!("cannot write {}", path.display()))
}

fn llmperf_files(
    plan: &Plan,
    records: &[RequestRecord],
    errors: &ErrorMessages,
    now: i64,
) -> [ResultFile; 2] {
    let counted = counted(plan, records);
    let parameters = llmperf::Parameters::of(plan, counted, now);
    llmperf::files(&parameters, counted, |index| errors.of(index))
}

/// The requests without the warm-up, which is in no figure.
fn counted<'a>(plan: &Plan, records: &'a [RequestRecord]) -> &'a [RequestRecord] {
    let warm = records.partition_point(|record| record.index < plan.warmup_requests);
    &records[warm..]
}

fn correctness_files(
    options: &LoadTest,
    prepared: &PreparedRun,
    run: &CompletedRun,
    now: i64,
) -> anyhow::Result<[ResultFile; 2]> {
    let texts = run.recorded.texts.texts().collect::<Result<HashMap<_, _>, _>>()?;
    let requests = &prepared.prepared.requests;
    let answers: Vec<CorrectnessAnswer<'_>> = counted(&prepared.plan, &run.recorded.records)
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
                error: run.recorded.errors.of(record.index),
                prompt,
                expected,
                text,
                passed: record.class == Class::Ok && correctness::is_correct(text, expected),
            })
        })
        .collect();
    let parameters = CorrectnessParameters {
        model: prepared.plan.model.clone(),
        num_concurrent_requests: llmperf::Parameters::of(&prepared.plan, &[], now).num_concurrent_requests,
        sampling: prepared.plan.sampling.clone(),
        llm_api: options.llm_api.name.llmperf.to_owned(),
        metadata: prepared.plan.metadata.clone(),
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
    note(&format!(
        "correctness: {wrong} of {answered} answers do not hold the number"
    ));
    Ok(llmperf::correctness_files(&parameters, &answers))
}
