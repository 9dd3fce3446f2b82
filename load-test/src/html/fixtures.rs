//! Reports for tests.

use crate::{
    plan::Plan,
    record::RequestRecord,
    report::{
        Inputs, Report, build,
        fixtures::{facts, header, recorded},
    },
    run::RunMeasurements,
    verdict::ErrorLimits,
};

/// The report of a run with these records, after a change of what is known beside them.
pub(crate) fn report(
    records: &[RequestRecord],
    change: impl FnOnce(&mut RunMeasurements, &mut Plan),
) -> Report {
    let mut facts = facts(records);
    let mut header = header();
    change(&mut facts, &mut header.workload.plan);
    build(Inputs {
        header,
        facts: &facts,
        recorded: &recorded(records.to_vec()),
        limits: ErrorLimits::default(),
    })
}
