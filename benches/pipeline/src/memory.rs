//! (c) The resident memory of each service.

use anyhow::Context;

use crate::services::Services;

const GOAL_MIB: f64 = 64.0;

pub(crate) fn bench(services: &Services) -> anyhow::Result<()> {
    report("benchmark-service", services.benchmark.id().context("its pid")?)
}

/// Prints the resident memory of a process, current and peak, relative to the goal.
pub(crate) fn report(name: &str, pid: u32) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let (resident, peak) = (mib(&status, "VmRSS:")?, mib(&status, "VmHWM:")?);
    println!(
        "bench memory ratio={:.2} service={name} resident={resident:.1}MiB peak={peak:.1}MiB goal={GOAL_MIB}MiB",
        resident / GOAL_MIB
    );
    Ok(())
}

fn mib(status: &str, field: &str) -> anyhow::Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("no {field}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
