//! What a drill measures: how long until the data is there, how much would have been lost, how much WAL there is.

use crate::catalog::Catalog;
use crate::core::progress::Seconds;
use crate::core::{SegmentName, TimelineId, Timestamp};
use crate::engine::primary::archiver;
use crate::error::Result;
use crate::event::drill::{DrillPhase, DrilledStop, Forecast};
use crate::event::{DrillReport, Phase, Recovery};
use crate::plan::archiving::Archiver;
use crate::plan::{Plan, StepId};
use crate::source::{Cancel, Index};

/// So many segments of a timeline are looked into for its last commit: nothing was committed for a while, or it is idle.
const LOOKED_INTO: usize = 64;

/// The newest commit that the archives know, on whichever timeline.
///
/// # Errors
/// When it was cancelled.
pub(super) fn newest_known(catalog: &Catalog, index: &Index<'_>, cancel: &Cancel) -> Result<Option<Timestamp>> {
    let mut newest = None;
    for timeline in &catalog.timelines {
        for name in catalog.segments_of(timeline.id).rev().take(LOOKED_INTO) {
            // What was rolled back is no loss.
            let last = index.summary(*name, cancel)?.ok().and_then(|summary| summary.last_commit);
            if let Some(commit) = last {
                newest = newest.max(Some(commit.at));
                break;
            }
        }
    }
    Ok(newest)
}

/// What a primary said at the beginning of a drill.
pub(super) struct PrimaryThen {
    /// What its clock showed.
    pub(super) now: Timestamp,
    /// Where it stood, where no transaction was going on.
    pub(super) at_rest: Option<AtRest>,
}

/// Where a primary stood on which no transaction was going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AtRest {
    /// The timeline that it writes: servers that have parted can have given the same ids.
    pub(super) timeline: TimelineId,
    /// The id behind its last transaction.
    pub(super) next_xid: u64,
}

impl AtRest {
    /// `None` also where it does not write, but replays: what it has not received is unknown.
    fn of(said: &Archiver) -> Option<AtRest> {
        let segment = SegmentName::parse(said.current_wal.as_deref()?)?;
        Some(AtRest { timeline: segment.timeline, next_xid: said.details.next_xid? })
    }
}

/// What the primary says, where it answers and is this cluster's; else why not, in words.
pub(super) fn primary_now(connection: &str, catalog: &Catalog) -> Result<PrimaryThen, String> {
    let said = archiver(connection).map_err(|error| error.in_words())?;
    match (said.system_identifier, catalog.system_identifier) {
        (Some(primary), Some(archive)) if primary != archive => {
            Err("the server that is configured as the primary is of another cluster than the archives".to_owned())
        }
        _ => {
            let at_rest = AtRest::of(&said);
            let now = said.now.map(|now| PrimaryThen { now, at_rest });
            now.ok_or_else(|| "the primary does not say what time it is".to_owned())
        }
    }
}

/// Where recovery is predicted to stop.
pub(super) fn predicted(plan: &Plan) -> DrilledStop {
    let resolved = &plan.resolved;
    DrilledStop {
        timeline: Some(resolved.timeline),
        replay_end: Some(resolved.replay_end),
        xid: resolved.xid,
        at: resolved.at,
        name: resolved.name.clone(),
    }
}

/// Where it stopped.
pub(super) fn actual(recovery: &Recovery) -> Option<DrilledStop> {
    let stopped = recovery.stopped.as_ref()?;
    Some(DrilledStop {
        timeline: Some(recovery.resolved.timeline),
        replay_end: recovery.replayed_lsn,
        xid: stopped.xid,
        at: stopped.at,
        name: stopped.name.clone(),
    })
}

/// The last commit that can be recovered at all, which need not be the last one before the target; where WAL has none, when
/// the backup was taken.
pub(super) fn recoverable_at(plan: &Plan) -> Option<Timestamp> {
    let resolved = &plan.resolved;
    let last = resolved.last_lost.and_then(|place| place.at);
    let last = last.max(resolved.last_kept.and_then(|place| place.at));
    last.or(plan.backup.finished_at).or(plan.backup.started_at)
}

/// Takes what the steps of a recovery took, and what follows from it.
pub(super) fn take_phases(report: &mut DrillReport, phases: &[Phase]) {
    report.phases.retain(|phase| phase.name == PLAN);
    report.phases.extend(phases.iter().filter_map(|phase| {
        // What comes after the data is there is told by the drill itself.
        let counts = matches!(
            phase.step,
            StepId::Unpack | StepId::Combine | StepId::Snapshot | StepId::Configure | StepId::Start | StepId::Replay
        );
        let name = phase.step.name().to_owned();
        counts.then_some(DrillPhase { name, seconds: phase.seconds, bytes: phase.bytes, counts })
    }));
    let replayed = phases.iter().find(|phase| phase.step == StepId::Replay);
    report.wal_bytes = replayed.and_then(|phase| phase.bytes);
}

/// The phase before anything is done.
pub(super) const PLAN: &str = "plan";

/// What the plan forecast, against what it took.
pub(super) fn forecast(plan: &Plan, phases: &[DrillPhase], is_over: bool) -> Option<Forecast> {
    let predicted_s = plan.estimate.total_s?;
    let steps = phases.iter().filter(|phase| phase.counts && phase.name != PLAN && phase.name != CHECKS);
    let actual_s = is_over.then(|| steps.map(|phase| phase.seconds).sum());
    Some(Forecast { predicted_s, actual_s, basis: plan.estimate.basis.clone() })
}

/// The phase of the checks that an operator would wait for.
pub(super) const CHECKS: &str = "checks";

/// Seconds until the data could have been worked with again.
pub(super) fn rto_s(phases: &[DrillPhase]) -> f64 {
    phases.iter().filter(|phase| phase.counts).map(|phase| phase.seconds).sum()
}

/// Bytes of WAL that the cluster wrote in an hour, from the backup's begin to the stop; `None` where that was no time at all.
pub(super) fn wal_bytes_per_hour(plan: &Plan, last_commit_at: Option<Timestamp>) -> Option<f64> {
    let begun = plan.backup.started_at?;
    let hours = last_commit_at?.seconds_since(begun) / 3600.0;
    let bytes = plan.resolved.replay_end.bytes_since(plan.backup.start_lsn?);
    (hours > 1.0 / 3600.0).then(|| bytes as f64 / hours)
}

/// How much would have been lost: the age of the last commit that can be recovered, against the primary's clock or else
/// the newest commit known.
pub(super) fn take_rpo(report: &mut DrillReport) {
    let (against, what) = match (report.primary_at, report.newest_known_at) {
        (Some(now), _) => (now, "the primary's clock"),
        (None, Some(newest)) => (newest, "the newest commit in the archives"),
        (None, None) => return,
    };
    let Some(recoverable) = report.recoverable_at else { return };
    report.rpo_s = Some(against.seconds_since(recoverable).max(0.0));
    report.rpo_against = Some(what.to_owned());
}

/// Nothing would have been lost: the copy has every transaction that the primary had. On one on which nothing is done, the
/// age of the last commit says nothing.
pub(super) fn take_nothing_lost(report: &mut DrillReport) {
    report.rpo_s = Some(0.0);
    report.rpo_against = Some("the primary, all of whose transactions are there".to_owned());
}

/// That nothing would have been lost is not proved where nothing was restored.
pub(super) fn forget_unproved_rpo(report: &mut DrillReport) {
    if report.actual.is_none() && report.rpo_s.is_none_or(|lost| lost <= 0.0) {
        (report.rpo_s, report.rpo_against) = (None, None);
    }
}

/// What is to be known of an RPO that has a limit, and for which no primary can be asked.
pub(super) fn without_primary(report: &DrillReport) -> Option<String> {
    report.rpo_limit_s?;
    let age = report.newest_known_at.map(|newest| report.begun_at.seconds_since(newest).max(0.0));
    let age = age.map(|age| format!(", whose newest commit is {} old", Seconds(age))).unwrap_or_default();
    Some(format!(
        "the RPO is measured against the archives{age}; what was not archived is not known without “primary” in the \
         configuration"
    ))
}

/// What is over its limit, in words.
pub(super) fn exceeded(report: &DrillReport) -> Vec<String> {
    let over = |measured: Option<f64>, limit: Option<f64>| {
        let (measured, limit) = (measured?, limit?);
        (measured > limit).then_some((Seconds(measured), Seconds(limit)))
    };
    let rto = over(report.rto_s, report.rto_limit_s).map(|(took, limit)| {
        format!("it took {took} until the data could be worked with, more than the RTO of {limit}")
    });
    let rpo = over(report.rpo_s, report.rpo_limit_s).map(|(lost, limit)| {
        let against = report.rpo_against.as_deref().unwrap_or_default();
        format!("the last commit that can be recovered is {lost} older than {against}, more than the RPO of {limit}")
    });
    rto.into_iter().chain(rpo).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::drill::tests::report;

    #[test]
    fn what_is_lost_is_measured_against_the_primary_where_it_answers() {
        let at = |seconds| Timestamp::from_unix_seconds(seconds);
        let mut report = report();
        (report.recoverable_at, report.newest_known_at, report.primary_at) = (at(1000), at(1060), at(1300));
        take_rpo(&mut report);
        assert_eq!((report.rpo_s, report.rpo_against.as_deref()), (Some(300.0), Some("the primary's clock")));
        report.primary_at = None;
        take_rpo(&mut report);
        assert_eq!(report.rpo_s, Some(60.0));
        // A clock that runs behind loses nothing.
        report.newest_known_at = at(900);
        take_rpo(&mut report);
        assert_eq!(report.rpo_s, Some(0.0));
    }

    #[test]
    fn a_limit_is_exceeded_by_more_than_it_only() {
        let mut report = report();
        (report.rto_s, report.rto_limit_s) = (Some(10.0), Some(10.0));
        (report.rpo_s, report.rpo_limit_s) = (None, Some(1.0));
        assert_eq!(exceeded(&report), Vec::<String>::new());
        (report.rto_limit_s, report.rpo_s) = (Some(9.5), Some(2.0));
        let told = exceeded(&report);
        assert!(told[0].contains("10 s") && told[0].contains("RTO of 9.5 s"), "{told:?}");
        assert!(told[1].contains("RPO of 1.0 s"), "{told:?}");
    }

    #[test]
    fn wal_per_hour_needs_time_to_have_passed() {
        let plan = crate::plan::example();
        let begun = plan.backup.started_at.unwrap();
        assert_eq!(wal_bytes_per_hour(&plan, Some(begun)), None);
        let rate = wal_bytes_per_hour(&plan, Some(begun.plus_micros(1_800_000_000))).unwrap();
        let bytes = plan.resolved.replay_end.bytes_since(plan.backup.start_lsn.unwrap());
        assert!((rate - bytes as f64 * 2.0).abs() < 1.0);
    }
}
