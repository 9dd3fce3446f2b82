//! Reports for tests.

use crate::{
    plan::Plan,
    record::RequestRecord,
    report::{
        Report, ReportInputs, build,
        fixtures::{header, measurements, recorded},
    },
    run::RunMeasurements,
    verdict::ErrorLimits,
};

/// The report of a run with these records; `change` may modify the measurements and the plan.
pub(crate) fn report(
    records: &[RequestRecord],
    change: impl FnOnce(&mut RunMeasurements, &mut Plan),
) -> Report {
    let mut measurements = measurements(records);
    let mut header = header();
    change(&mut measurements, &mut header.workload.plan);
    build(ReportInputs {
        header,
        measurements: &measurements,
        recorded: &recorded(records.to_vec()),
        limits: ErrorLimits::default(),
    })
}
