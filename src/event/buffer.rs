//! Folds events into what they say: state is what the journal folds to.

use crate::pgdata::server_log::{StopKind, Stopped};
use crate::plan::{Finding, Plan, StepId};
use crate::resolve::{Resolved, StopSide};

use super::types::{Event, Failure, Phase, Progress, Recovery, RecoveryState, Strategy, What};
use crate::core::time::Timestamp;
use crate::core::{Lsn, TimelineId, Xid};

/// How many lines of the server's log are kept for looking at.
const LOG_LINES: usize = 500;

/// What the events of one recovery fold to.
///
/// Folding a journal gives what folding the live events gave, but for what passes: progress and log lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventBuffer {
    /// The plan that is being carried out; the last one where it was retargeted.
    pub plan: Option<Plan>,
    /// When the recovery was begun.
    pub started_at: Option<Timestamp>,
    /// Where it stands.
    pub state: Option<RecoveryState>,
    /// The step that is being done.
    pub running: Option<StepId>,
    /// The steps that are done.
    pub phases: Vec<Phase>,
    /// How far the running step has come.
    pub progress: Option<Progress>,
    /// The postmaster's process id.
    pub server_pid: Option<u32>,
    /// Where replay stopped, as PostgreSQL reported it.
    pub stopped: Option<Stopped>,
    /// How far replay is.
    pub replayed_lsn: Option<Lsn>,
    /// The time of the last transaction replayed.
    pub last_commit_at: Option<Timestamp>,
    /// The timeline after promotion.
    pub promoted_to: Option<TimelineId>,
    /// How the last retarget went.
    pub strategy: Option<Strategy>,
    /// What was found while doing it.
    pub findings: Vec<Finding>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The last lines of the server's log.
    pub log: std::collections::VecDeque<String>,
}

impl EventBuffer {
    /// Folds one more event in.
    pub fn fold(&mut self, event: &Event) {
        match &event.what {
            What::Planned { plan, strategy, .. } => self.begin(plan, *strategy, event.at),
            What::StepStarted { step } => {
                self.running = Some(*step);
                self.progress = None;
                self.failure = None;
            }
            What::Progress(progress) => {
                self.replayed_lsn = progress.replayed_lsn.or(self.replayed_lsn);
                self.last_commit_at = progress.last_commit_at.or(self.last_commit_at);
                self.progress = Some(progress.clone());
            }
            What::StepFinished { step, seconds, bytes } => {
                self.running = None;
                self.progress = None;
                self.phases.push(Phase { step: *step, seconds: *seconds, bytes: *bytes });
            }
            What::State { state } => {
                self.state = Some(*state);
                if matches!(state, RecoveryState::ShutDown | RecoveryState::Discarded) {
                    self.server_pid = None;
                }
            }
            What::ServerStarted { pid } => self.server_pid = Some(*pid),
            What::Stopped { stopped, replayed_lsn, last_commit_at } => {
                self.stopped = Some(stopped.clone());
                self.replayed_lsn = replayed_lsn.or(self.replayed_lsn);
                self.last_commit_at = last_commit_at.or(self.last_commit_at);
            }
            What::Promoted { timeline } => self.promoted_to = Some(*timeline),
            What::Log { line } => {
                if self.log.len() == LOG_LINES {
                    self.log.pop_front();
                }
                self.log.push_back(line.clone());
            }
            What::Finding(finding) => self.findings.push(finding.clone()),
            What::Failed(failure) => {
                self.failure = Some(failure.clone());
                self.running = None;
                self.progress = None;
                self.state = Some(RecoveryState::Failed);
            }
            What::Unknown => {}
        }
    }

    fn begin(&mut self, plan: &Plan, strategy: Option<Strategy>, at: Timestamp) {
        let kept = std::mem::take(self);
        *self = EventBuffer {
            plan: Some(plan.clone()),
            started_at: kept.started_at.or(Some(at)),
            state: Some(RecoveryState::Planned),
            server_pid: kept.server_pid,
            strategy: strategy.or(kept.strategy),
            log: kept.log,
            ..EventBuffer::default()
        };
    }

    /// What it all comes to; `None` before there was a plan.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        let plan = self.plan.as_ref()?;
        let matches = self.stopped.as_ref().map(|stopped| matches(&plan.resolved, stopped, self.replayed_lsn));
        Some(Recovery {
            id: plan.recovery.clone(),
            state: self.state?,
            directory: plan.directory.clone(),
            backup: plan.backup.id.clone(),
            target: plan.target.clone(),
            resolved: plan.resolved.clone(),
            timeline: self.promoted_to.unwrap_or(plan.resolved.timeline),
            replayed_lsn: self.replayed_lsn,
            last_commit_at: self.last_commit_at,
            last_xid: self
                .stopped
                .as_ref()
                .and_then(|stopped| last_xid(&plan.resolved, stopped, matches == Some(true))),
            stopped: self.stopped.clone(),
            matches_prediction: matches,
            connection: plan.server.connection(),
            started_at: self.started_at?,
            strategy: self.strategy,
            phases: self.phases.clone(),
            server_pid: self.server_pid,
            failure: self.failure.clone(),
        })
    }
}

/// The last transaction replayed: the one it stopped after, or where it stopped as predicted, the one that was
/// predicted.
fn last_xid(resolved: &Resolved, stopped: &Stopped, matches: bool) -> Option<Xid> {
    let after_commit = stopped.kind == StopKind::Commit && !stopped.before;
    let predicted = || resolved.last_kept.filter(|_| matches).and_then(|place| place.xid);
    stopped.xid.filter(|_| after_commit).or_else(predicted)
}

/// Whether what PostgreSQL did is what was predicted: the same side of the same record, and replay ended where it
/// should have, as far as the server told.
fn matches(resolved: &Resolved, stopped: &Stopped, replayed_lsn: Option<Lsn>) -> bool {
    let same_place = replayed_lsn.is_none_or(|lsn| lsn == resolved.replay_end);
    let same_side = stopped.before == (resolved.stop == StopSide::Before);
    let same_record = match stopped.kind {
        StopKind::Commit | StopKind::Abort => {
            stopped.xid == resolved.xid && (stopped.at.is_none() || stopped.at == resolved.at)
        }
        StopKind::RestorePoint => stopped.name == resolved.name,
        StopKind::Consistency => resolved.stop == StopSide::Consistency,
        // The server names the record, not the LSN that it was given.
        StopKind::Lsn => stopped.lsn.is_none_or(|lsn| lsn == resolved.lsn),
    };
    same_place && same_side && same_record
}
