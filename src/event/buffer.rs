//! Folds events into what they say: state is what the journal folds to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::pgdata::server_log::{StopKind, Stopped};
use crate::plan::checklist::{ItemId, ItemState};
use crate::plan::{Finding, Plan, StepId};
use crate::resolve::{Resolved, StopSide};

use super::types::{Event, Failure, Phase, Progress, Recovery, RecoveryState, Strategy, What};
use crate::core::time::Timestamp;
use crate::core::{Lsn, TimelineId, Xid};

/// How many lines of the server's log are kept for looking at.
const LOG_LINES: usize = 500;
/// The finding of somebody's pause before the target.
const PAUSED_ON_THE_WAY: &str = "paused-on-the-way";

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
    /// The role to connect as, where it is not the planned one.
    pub role: Option<String>,
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
    /// What became of what is left to do after promotion, and what was said about it.
    pub checklist: BTreeMap<ItemId, (ItemState, Vec<String>)>,
    /// The item for which the server is being stopped and started.
    pub restarting: Option<ItemId>,
    /// How the server is reached, where that is not as planned any more.
    pub connection: Option<String>,
    /// How the last retarget went.
    pub strategy: Option<Strategy>,
    /// How far the data may have been replayed since it was unpacked; `None` where that is not known: before the first
    /// stop, and where a server was started that nobody saw stop.
    pub reached: Option<Lsn>,
    /// How far it is being replayed, where a server was started that nobody saw stop yet.
    replaying_to: Option<Lsn>,
    /// What was found while doing it, each once, and still matters.
    pub findings: Vec<Finding>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Whether the data directory was made, or was there and empty; `None` before it was taken.
    pub made_directory: Option<bool>,
    /// The further directories that were taken, and whether each was made, or was there and empty.
    pub further: BTreeMap<PathBuf, bool>,
    /// Whether the data directory that was there was renamed, or was about to be.
    pub making_way: bool,
    /// Whether it was.
    pub made_way: bool,
    /// Whether it is settled how the last retarget gets to its target.
    pub settled: bool,
    /// Whether the backup is unpacked, as the plan wants it: a retarget that unpacks again begins without.
    pub unpacked: bool,
    /// Whether everything is written that a server needs to recover, so that one that recovers no more was promoted.
    pub configured: bool,
    /// Whether everything is being removed.
    pub discarding: bool,
    /// Whether the journal has events of a newer Walback, which this one does not know.
    pub newer: bool,
    /// The last lines of the server's log.
    pub log: std::collections::VecDeque<String>,
}

impl EventBuffer {
    /// Folds one more event in.
    pub fn fold(&mut self, event: &Event) {
        match &event.what {
            What::Planned { plan, strategy, .. } => self.begin(plan, *strategy, event.at),
            What::Directory { made } => self.made_directory = Some(*made),
            What::FurtherDirectory { directory, made } => {
                self.further.insert(directory.clone(), *made);
            }
            What::Discarding => self.discarding = true,
            What::Resumed { .. } => {}
            What::StepStarted { step } => {
                self.running = Some(*step);
                self.progress = None;
                self.about_to(*step);
                self.making_way |= *step == StepId::MakeWay;
                if matches!(step, StepId::Unpack | StepId::Combine | StepId::Discard) {
                    (self.unpacked, self.configured) = (false, false);
                }
                // Stopping and removing do not mend what failed.
                if !matches!(step, StepId::Stop | StepId::Discard) {
                    self.failure = None;
                }
            }
            What::Progress(progress) => {
                self.replayed_lsn = progress.replayed_lsn.or(self.replayed_lsn);
                self.last_commit_at = progress.last_commit_at.or(self.last_commit_at);
                self.progress = Some(progress.clone());
            }
            What::StepFinished { step, seconds, bytes } => {
                self.running = None;
                self.progress = None;
                // Settings are only written into data that is there, whichever way it came there.
                self.unpacked |= match step {
                    // What was unpacked of a chain is to be combined yet.
                    StepId::Unpack => self.plan.as_ref().is_none_or(|plan| plan.chain.is_none()),
                    StepId::Combine | StepId::Snapshot | StepId::Configure => true,
                    _ => false,
                };
                self.configured |= *step == StepId::Configure;
                self.made_way |= *step == StepId::MakeWay;
                self.phases.push(Phase { step: *step, seconds: *seconds, bytes: *bytes });
            }
            What::State { state } => {
                self.state = Some(*state);
                if *state == RecoveryState::Discarded {
                    // What is there from now on is not the recovery's.
                    self.further.clear();
                }
                if *state != RecoveryState::Replaying {
                    // It went on since; and whoever did at the target what the hint says would promote.
                    self.findings.retain(|finding| finding.code != PAUSED_ON_THE_WAY);
                }
                // Whatever it comes to, the removal is over, or something else was decided.
                self.discarding = false;
                if matches!(state, RecoveryState::ShutDown | RecoveryState::Discarded) {
                    // Whatever it was to be started for, it is not to run any more.
                    (self.server_pid, self.restarting) = (None, None);
                }
            }
            What::Role { role } => self.role = Some(role.clone()),
            What::ServerStarted { pid } => self.server_pid = Some(*pid),
            What::Stopped { stopped, replayed_lsn, last_commit_at } => {
                self.stopped = Some(stopped.clone());
                self.reached = self.reached_at(stopped, *replayed_lsn);
                // A server that did not wait to be asked has gone on since it last answered: what it said then is
                // not where it stopped.
                self.replayed_lsn = *replayed_lsn;
                self.last_commit_at = *last_commit_at;
            }
            What::Approach { strategy, estimate, .. } => {
                self.strategy = Some(*strategy);
                self.settled = true;
                self.unpacked &= *strategy == Strategy::InPlace;
                if let Some(plan) = &mut self.plan {
                    plan.estimate = estimate.clone();
                }
            }
            What::Promoted { timeline } => self.promoted_to = Some(*timeline),
            What::Item { item, state, said, connection, restarts } => {
                match (state, restarts) {
                    (ItemState::Begun | ItemState::Failed, true) => self.restarting = Some(*item),
                    _ if self.restarting == Some(*item) => self.restarting = None,
                    _ => {}
                }
                self.checklist.insert(*item, (*state, said.clone()));
                self.connection = connection.clone().or(self.connection.take());
            }
            What::Log { line } => {
                if self.log.len() == LOG_LINES {
                    self.log.pop_front();
                }
                self.log.push_back(line.clone());
            }
            // It may be found again where it is gone on with.
            What::Finding(finding) if self.findings.contains(finding) => {}
            What::Finding(finding) => self.findings.push(finding.clone()),
            What::Failed(failure) => {
                // What a copy of was to be kept, or went back to one, is removed or half of it.
                self.unpacked &= failure.step != Some(StepId::Snapshot);
                self.failure = Some(failure.clone());
                self.running = None;
                self.progress = None;
                self.state = Some(RecoveryState::Failed);
            }
            What::Unknown => self.newer = true,
        }
    }

    /// A step that makes the data anew, or replays it further.
    fn about_to(&mut self, step: StepId) {
        match step {
            StepId::Unpack | StepId::Combine | StepId::Snapshot | StepId::Discard => {
                (self.reached, self.replaying_to) = (None, None)
            }
            StepId::Start => {
                let stop = self.plan.as_ref().map(|plan| plan.resolved.replay_end);
                self.replaying_to = self.reached.take().max(self.replaying_to).max(stop);
            }
            _ => {}
        }
    }

    /// How far the data has been replayed where the server stopped like this. Where it does not say, and did not stop
    /// where it was to, nobody knows.
    fn reached_at(&self, stopped: &Stopped, replayed_lsn: Option<Lsn>) -> Option<Lsn> {
        let as_predicted = self.plan.as_ref().is_some_and(|plan| matches(&plan.resolved, stopped, replayed_lsn));
        (as_predicted || replayed_lsn.is_some()).then(|| self.replaying_to.max(replayed_lsn)).flatten()
    }

    /// Whether anything was done outside of the journal, or announced to be.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.made_directory.is_some() || self.unpacked || !self.phases.is_empty() || self.running.is_some()
    }

    /// Whether a data directory has to be renamed yet, before anything can be made.
    #[must_use]
    pub fn makes_way(&self) -> bool {
        let planned = self.plan.as_ref().is_some_and(|plan| plan.make_way.is_some());
        planned && !self.made_way && self.made_directory.is_none()
    }

    fn begin(&mut self, plan: &Plan, strategy: Option<Strategy>, at: Timestamp) {
        let kept = std::mem::take(self);
        *self = EventBuffer {
            plan: Some(plan.clone()),
            started_at: kept.started_at.or(Some(at)),
            state: Some(RecoveryState::Planned),
            server_pid: kept.server_pid,
            strategy: strategy.or(kept.strategy),
            reached: kept.reached,
            replaying_to: kept.replaying_to,
            log: kept.log,
            made_directory: kept.made_directory,
            further: kept.further,
            making_way: kept.making_way,
            made_way: kept.made_way,
            unpacked: kept.unpacked && strategy == Some(Strategy::InPlace),
            configured: kept.configured,
            newer: kept.newer,
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
            connection: self.connection.clone().unwrap_or_else(|| plan.server.connection(self.role.as_deref())),
            checklist: self.checklist.iter().map(|(item, (state, _))| (*item, *state)).collect(),
            started_at: self.started_at?,
            strategy: self.strategy,
            made_way: plan.make_way.as_ref().filter(|_| self.making_way).map(|former| former.to.clone()),
            phases: self.phases.clone(),
            server_pid: self.server_pid,
            failure: self.failure.clone(),
            findings: self.findings.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::journal;
    use crate::plan::example;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_700_001_000 + second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn progress(done: u64) -> What {
        What::Progress(Progress {
            step: StepId::Replay,
            done,
            total: Some(100),
            unit: "bytes".into(),
            rate: Some(1.5),
            eta_s: None,
            replayed_lsn: Some(Lsn(0x200_0000 + done)),
            last_commit_at: None,
            doing: Some("recovering 000000010000000000000002".to_owned()),
            waits_for: None,
        })
    }

    fn stopped(xid: u32) -> Stopped {
        Stopped {
            kind: StopKind::Commit,
            before: true,
            xid: Some(Xid(xid)),
            at: example().resolved.at,
            lsn: None,
            name: None,
        }
    }

    /// A recovery from its plan to its promotion, with everything that passes.
    fn events(stopped: Stopped, replayed_lsn: Lsn) -> Vec<Event> {
        let step = |step| [What::StepStarted { step }, What::StepFinished { step, seconds: 1.25, bytes: Some(7) }];
        let [replay_started, replay_finished] = step(StepId::Replay);
        let mut whats = vec![What::Planned { plan: Box::new(example()), hash: "x".to_owned(), strategy: None }];
        whats.push(What::State { state: RecoveryState::Unpacking });
        whats.extend(step(StepId::Unpack));
        whats.extend(step(StepId::Start));
        whats.extend([
            What::ServerStarted { pid: 4711 },
            What::State { state: RecoveryState::Replaying },
            replay_started,
            progress(10),
            What::Log { line: "LOG:  redo starts at 0/2000028".to_owned() },
            progress(90),
            What::Finding(Finding::note("x", "y").hint("z")),
            What::Stopped { stopped, replayed_lsn: Some(replayed_lsn), last_commit_at: Some(at(0)) },
            What::State { state: RecoveryState::Paused },
            replay_finished,
        ]);
        whats
            .into_iter()
            .enumerate()
            .map(|(i, what)| Event { at: at(i as i64), recovery: "restore".to_owned(), what })
            .collect()
    }

    #[test]
    fn what_was_found_is_kept_once_and_as_long_as_it_matters() {
        let of = |what| Event { at: at(0), recovery: "restore".to_owned(), what };
        let lasts = Finding::warning("prepared-forgotten", "one").hint("z");
        let passes = Finding::warning(PAUSED_ON_THE_WAY, "by hand").hint("pg_wal_replay_resume()");
        let planned = || of(What::Planned { plan: Box::new(example()), hash: "x".to_owned(), strategy: None });
        let mut found = vec![planned()];
        found.extend([&lasts, &passes, &lasts].map(|finding| of(What::Finding(finding.clone()))));
        assert_eq!(fold(&found).findings, [lasts.clone(), passes]);
        // Also where the log does not say that it stopped.
        found.push(of(What::State { state: RecoveryState::Paused }));
        assert_eq!(fold(&found).findings, [lasts]);
        found.push(planned());
        assert_eq!(fold(&found).findings, []);
    }

    fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> EventBuffer {
        let mut buffer = EventBuffer::default();
        events.into_iter().for_each(|event| buffer.fold(event));
        buffer
    }

    #[test]
    fn folded_live_and_folded_from_the_journal_are_equal() {
        let live = events(stopped(735), example().resolved.replay_end);
        let journalled: String = live
            .iter()
            .filter(|event| event.what.is_journalled())
            .map(|event| journal::encode(event).unwrap())
            .collect();
        let kept = journal::decode(&journalled).unwrap();
        let (mut from_live, from_journal) = (fold(&live), fold(&kept));
        from_live.log.clear();
        assert_eq!(from_live, from_journal);
        assert_eq!(from_live.recovery(), from_journal.recovery());
    }

    #[test]
    fn the_journal_keeps_a_whole_line_or_none() {
        let line = journal::encode(&events(stopped(735), Lsn(1))[1]).unwrap();
        for cut in 0..line.len() {
            assert_eq!(journal::decode(&line[..cut]).unwrap(), [], "cut at {cut}");
        }
        let (number, _) = journal::decode(&format!("{line}not json\n")).unwrap_err();
        assert_eq!(number, 2);
        let newer = r#"{"at":"2030-01-01T00:00:00Z","recovery":"x","event":"from-a-newer-walback","more":1}"#;
        assert_eq!(journal::decode(&format!("{newer}\n")).unwrap()[0].what, What::Unknown);
    }

    #[test]
    fn what_happened_is_held_against_what_was_predicted() {
        let end = example().resolved.replay_end;
        let verdict = |stopped, lsn| fold(&events(stopped, lsn)).recovery().and_then(|r| r.matches_prediction);
        assert_eq!(verdict(stopped(735), end), Some(true));
        assert_eq!(verdict(stopped(736), end), Some(false), "another transaction");
        assert_eq!(verdict(stopped(735), end.plus(8)), Some(false), "another place");
        assert_eq!(verdict(Stopped { before: false, ..stopped(735) }, end), Some(false), "the other side");
        assert_eq!(fold(&events(stopped(735), end)[..8]).recovery().and_then(|r| r.matches_prediction), None);
    }

    #[test]
    fn what_a_server_said_on_the_way_is_not_where_it_stopped() {
        let mut all = events(stopped(735), example().resolved.replay_end);
        for event in &mut all {
            if let What::Stopped { replayed_lsn, last_commit_at, .. } = &mut event.what {
                (*replayed_lsn, *last_commit_at) = (None, None);
            }
        }
        let recovery = fold(&all).recovery().unwrap();
        assert_eq!((recovery.matches_prediction, recovery.replayed_lsn), (Some(true), None));
    }

    #[test]
    fn how_far_the_data_was_replayed_is_known_until_it_is_made_anew() {
        let end = example().resolved.replay_end;
        let mut buffer = fold(&events(stopped(735), end));
        assert_eq!(buffer.reached, Some(end));
        let mut tell = |what| {
            buffer.fold(&Event { at: at(99), recovery: "restore".to_owned(), what });
            buffer.reached
        };
        let back = crate::resolve::Resolved { replay_end: Lsn(end.0 - 8), ..example().resolved };
        let back = Plan { resolved: back, ..example() };
        tell(What::Planned { plan: Box::new(back), hash: "y".to_owned(), strategy: Some(Strategy::InPlace) });
        assert_eq!(tell(What::StepStarted { step: StepId::Stop }), Some(end), "stopping changes nothing");
        assert_eq!(tell(What::StepStarted { step: StepId::Start }), None, "who knows, until it stops");
        let there = What::Stopped { stopped: stopped(735), replayed_lsn: Some(Lsn(end.0 - 8)), last_commit_at: None };
        assert_eq!(tell(there), Some(end), "what was done further on may still be there");
        tell(What::StepStarted { step: StepId::Start });
        let astray = What::Stopped { stopped: stopped(736), replayed_lsn: None, last_commit_at: None };
        assert_eq!(tell(astray), None, "it went somewhere else, and does not say where");
        tell(What::StepStarted { step: StepId::Start });
        let further = What::Stopped { stopped: stopped(736), replayed_lsn: Some(end.plus(8)), last_commit_at: None };
        assert_eq!(tell(further), Some(end.plus(8)));
        assert_eq!(tell(What::StepStarted { step: StepId::Unpack }), None);
    }

    #[test]
    fn a_retarget_starts_afresh_but_for_when_it_was_begun() {
        let mut all = events(stopped(735), example().resolved.replay_end);
        let begun = all[0].at;
        all.push(Event {
            at: at(99),
            recovery: "restore".to_owned(),
            what: What::Planned { plan: Box::new(example()), hash: "y".to_owned(), strategy: Some(Strategy::InPlace) },
        });
        let recovery = fold(&all).recovery().unwrap();
        assert_eq!((recovery.started_at, recovery.strategy), (begun, Some(Strategy::InPlace)));
        assert_eq!((recovery.stopped, recovery.phases.len()), (None, 0));
    }
}
