//! How a recovery gets to another target: whether its copy can go there as it is, and what it takes if not. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Estimate;
use crate::core::progress::{Bytes, Seconds};
use crate::core::{Action, Lsn, Target, TargetKind, TimelineChoice, TimelineId, TimelinePath};
use crate::pgdata::control_file::{ClusterState, ControlFile};
use crate::resolve::{Resolved, StopSide, Unreachable};

/// How a retarget gets to the new target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The server starts again where it last noted that it could, and replays to the target.
    InPlace,
    /// The data directory is made anew from the copy that was kept of it before its first start.
    Snapshot,
    /// The backup is unpacked again.
    Unpack,
}

impl Strategy {
    /// Its word, as the recovery object has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Strategy::InPlace => "in-place",
            Strategy::Snapshot => "snapshot",
            Strategy::Unpack => "unpack",
        }
    }

    /// Whether the data directory is emptied for it.
    #[must_use]
    pub fn empties_directory(self) -> bool {
        self != Strategy::InPlace
    }
}

/// How a retarget gets there, why so, and what it takes; said before it is begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approach {
    /// Which way.
    pub strategy: Strategy,
    /// Why not a shorter one, in words; empty for the shortest.
    pub why: String,
    /// What it takes.
    pub estimate: Estimate,
    /// The way that is taken where the copy turns out to have moved on by the time at which its server is stopped.
    pub otherwise: Option<Otherwise>,
}

/// A way that is taken where another one fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Otherwise {
    /// Which way.
    pub strategy: Strategy,
    /// What it takes.
    pub estimate: Estimate,
}

impl Approach {
    /// What it does and how long that takes: `goes there in place (16 MB of WAL, about 2 s), if the copy allows; else …`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let way = in_words(self.strategy, &self.estimate);
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        match &self.otherwise {
            None => format!("{way}{why}"),
            Some(otherwise) => {
                let other = in_words(otherwise.strategy, &otherwise.estimate);
                format!("{way}, if the copy still allows that when its server is stopped; else it {other}{why}")
            }
        }
    }
}

/// `unpacks the base backup again: 41 GB, 2.1 GB of WAL, about 7 min`.
fn in_words(strategy: Strategy, estimate: &Estimate) -> String {
    let about = estimate.total_s.map(|s| format!(", about {}", Seconds(s))).unwrap_or_default();
    let (data, wal) = (Bytes(estimate.unpack_bytes), Bytes(estimate.wal_bytes));
    match strategy {
        Strategy::InPlace => format!("goes there in place ({wal} of WAL to replay{about})"),
        Strategy::Snapshot => format!("goes back to the kept copy ({data}, {wal} of WAL to replay{about})"),
        Strategy::Unpack => format!("unpacks the base backup again ({data}, {wal} of WAL to replay{about})"),
    }
}

/// A step from where recovery stopped to the commit beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepTo {
    /// Just after the next commit: one more is kept.
    Next,
    /// Just before the last commit that is kept: one less is.
    Previous,
}

impl StepTo {
    /// The target of the step from `resolved`, with what the server does there; `None` where no commit lies there.
    #[must_use]
    pub fn target(self, resolved: &Resolved, action: Action) -> Option<Target> {
        let (place, inclusive) = match self {
            StepTo::Next => (resolved.first_lost, true),
            StepTo::Previous => (resolved.last_kept, false),
        };
        let timeline = TimelineChoice::Number(resolved.timeline);
        Some(Target { inclusive, timeline, action, ..Target::new(TargetKind::Xid(place?.xid?)) })
    }

    /// Why there is none.
    #[must_use]
    pub fn why_none(self) -> &'static str {
        match self {
            StepTo::Next => "no transaction commits behind this place in the archive",
            StepTo::Previous => "no transaction committed between the end of the base backup and this place",
        }
    }
}

/// What is known of a copy that is to go to another target.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The timeline that it follows.
    pub timeline: TimelineId,
    /// How far it may have been replayed; `None` where that is not known.
    pub reached: Option<Lsn>,
    /// Its `pg_control`; or why it cannot be read.
    pub control: Result<ControlFile, String>,
}

/// What WAL says about a server that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ahead {
    /// Where a server stops that starts at the copy's redo pointer and is told the same.
    pub stop: Result<Resolved, Unreachable>,
    /// What was replayed behind that stop and does not go back.
    pub behind: Behind,
}

/// What lies between a stop and how far the copy was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Nothing that would not go back.
    Nothing,
    /// This does not go back.
    Lasting(Lsn, &'static str),
    /// It could not be read from here on.
    Unread(Lsn),
}

/// Why a copy cannot go to a target in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// It was not replayed to a stop, or that is not known.
    Unknown,
    /// It follows the first timeline, and the target is on the second.
    Timeline(TimelineId, TimelineId),
    /// Its `pg_control` cannot be read: why.
    Control(String),
    /// It is in no recovery.
    State(ClusterState),
    /// The end of its base backup was not replayed.
    Inconsistent,
    /// Its files have changes up to here, and the target comes before.
    Written(Lsn),
    /// Its server would start again behind the target, from this checkpoint on.
    Checkpoint(Lsn),
    /// Its server would stop elsewhere: at this record, or nowhere.
    Elsewhere(Option<Lsn>),
    /// Its server could not be read at the target, and would promote instead of pausing.
    Unreadable,
    /// It did something behind the target that does not go back: where and what.
    Lasting(Lsn, &'static str),
    /// What it did behind the target cannot be read from here on.
    Unread(Lsn),
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::Unknown => f.write_str("it is not known how far the copy was replayed"),
            Bar::Timeline(from, to) => write!(f, "the copy follows timeline {from}, the target is on timeline {to}"),
            Bar::Control(why) => write!(f, "the copy's pg_control cannot be read: {why}"),
            Bar::State(state) => write!(f, "the copy's pg_control says “{state}”"),
            Bar::Inconsistent => f.write_str("the copy has not replayed the end of its base backup"),
            Bar::Written(lsn) => write!(f, "the copy's files have changes up to {lsn}, behind the target"),
            Bar::Checkpoint(lsn) => {
                write!(f, "the copy starts again at the checkpoint at {lsn}, not before the target")
            }
            Bar::Elsewhere(Some(lsn)) => write!(f, "going on from where it starts again, it would stop at {lsn}"),
            Bar::Elsewhere(None) => f.write_str("going on from where it starts again, it would not stop there"),
            Bar::Unreadable => f.write_str("going on from where it starts again, nobody could connect at the target"),
            Bar::Lasting(lsn, what) => write!(f, "{what} at {lsn}, behind the target, which does not go back"),
            Bar::Unread(lsn) => write!(f, "what the copy replayed from {lsn} on cannot be read any more"),
        }
    }
}

/// Whether a copy can go to `resolved` in place, as far as that is told without reading WAL.
///
/// A server that recovers writes its files only after it has noted in `pg_control` up to where they then have changes
/// (`UpdateMinRecoveryPoint`); it starts again at the redo pointer, and is consistent from that note on. So it can stop
/// where everything before the stop covers the note.
///
/// # Errors
/// Why it cannot.
pub fn barred(copy: &Standing, resolved: &Resolved) -> Result<(), Bar> {
    if copy.timeline != resolved.timeline {
        return Err(Bar::Timeline(copy.timeline, resolved.timeline));
    }
    if copy.reached.is_none() {
        return Err(Bar::Unknown);
    }
    let control = copy.control.as_ref().map_err(|why| Bar::Control(why.clone()))?;
    if !matches!(control.state, ClusterState::InArchiveRecovery | ClusterState::ShutDownInRecovery) {
        return Err(Bar::State(control.state));
    }
    let in_backup = control.backup_end_required || control.backup_start.is_some() || control.backup_end.is_some();
    let Some(written) = control.min_recovery_point.filter(|_| !in_backup) else { return Err(Bar::Inconsistent) };
    if resolved.replay_end < written || resolved.replay_end < resolved.consistent_at {
        return Err(Bar::Written(written));
    }
    // The checkpoint's own record is not replayed, and so not stopped at, where it is also the redo pointer.
    if resolved.lsn <= control.checkpoint {
        return Err(Bar::Checkpoint(control.checkpoint));
    }
    let path = path_of(resolved);
    let on_path = |lsn: Lsn, timeline| path.timeline_at(lsn) == Some(timeline);
    // As the server checks it (`readRecoverySignalFile` and after, `xlogrecovery.c`): it is the end of a record.
    if !on_path(Lsn(written.0.saturating_sub(1)), control.min_recovery_timeline)
        || !on_path(control.checkpoint, control.checkpoint_timeline)
    {
        return Err(Bar::Timeline(control.checkpoint_timeline.max(control.min_recovery_timeline), resolved.timeline));
    }
    Ok(())
}

/// The same, with what WAL says about a server that goes on.
///
/// # Errors
/// Why it cannot.
pub fn barred_ahead(target: &Target, resolved: &Resolved, ahead: &Ahead) -> Result<(), Bar> {
    let stop = ahead.stop.as_ref().map_err(|_| Bar::Elsewhere(None))?;
    let before = |resolved: &Resolved| resolved.stop == StopSide::Before;
    let same = (stop.lsn, stop.replay_end, before(stop)) == (resolved.lsn, resolved.replay_end, before(resolved));
    if !same {
        return Err(Bar::Elsewhere(Some(stop.lsn)));
    }
    if resolved.action(target) == Action::Pause && !stop.is_readable {
        return Err(Bar::Unreadable);
    }
    match ahead.behind {
        Behind::Nothing => Ok(()),
        Behind::Lasting(lsn, what) => Err(Bar::Lasting(lsn, what)),
        Behind::Unread(lsn) => Err(Bar::Unread(lsn)),
    }
}

/// The timelines from the base backup to the stop.
#[must_use]
pub fn path_of(resolved: &Resolved) -> TimelinePath {
    let ancestors: Vec<(TimelineId, Lsn)> = resolved.path.iter().copied().zip(resolved.forks.iter().copied()).collect();
    TimelinePath::new(&ancestors, resolved.path.last().copied().unwrap_or(resolved.timeline))
}

#[cfg(test)]
mod tests {
    use super::Strategy;
    use super::*;
    use crate::core::Xid;
    use crate::resolve::Place;
    use proptest::prelude::*;

    const BACKUP_END: Lsn = Lsn(0x200_0100);
    const REDO: Lsn = Lsn(0x300_0028);
    const CHECKPOINT: Lsn = Lsn(0x300_0060);
    const WRITTEN: Lsn = Lsn(0x300_0500);
    const REACHED: Lsn = Lsn(0x300_0900);

    fn control() -> ControlFile {
        ControlFile {
            checkpoint: CHECKPOINT,
            redo: REDO,
            min_recovery_point: Some(WRITTEN),
            ..crate::pgdata::control_file::example()
        }
    }

    fn copy() -> Standing {
        Standing { timeline: TimelineId(1), reached: Some(REACHED), control: Ok(control()) }
    }

    /// A stop at the record from `lsn` to `end`.
    fn stop(side: StopSide, lsn: u64, end: u64) -> Resolved {
        let replay_end = if side == StopSide::Before { Lsn(lsn) } else { Lsn(end) };
        Resolved { replay_end, consistent_at: BACKUP_END, ..Resolved::new(TimelineId(1), side, Lsn(lsn)) }
    }

    fn with(change: impl FnOnce(&mut ControlFile)) -> Standing {
        let mut control = control();
        change(&mut control);
        Standing { control: Ok(control), ..copy() }
    }

    #[test]
    fn a_copy_goes_back_to_where_its_files_are_and_not_a_byte_further() {
        let (at, behind) = (0x300_0500, 0x300_0540);
        // What comes before the record at which it stops ends just where the files' changes do.
        assert_eq!(barred(&copy(), &stop(StopSide::Before, at, behind)), Ok(()));
        assert_eq!(barred(&copy(), &stop(StopSide::After, at - 0x40, at)), Ok(()), "it ends there");
        let earlier = Err(Bar::Written(WRITTEN));
        assert_eq!(barred(&copy(), &stop(StopSide::Before, at - 8, behind)), earlier);
        assert_eq!(barred(&copy(), &stop(StopSide::After, at - 0x48, at - 8)), earlier);
        assert_eq!(barred(&copy(), &stop(StopSide::Before, REACHED.0 + 8, REACHED.0 + 0x40)), Ok(()), "forward");
    }

    #[test]
    fn the_checkpoint_that_it_starts_from_is_not_stopped_at_again() {
        let end = CHECKPOINT.0 + 0x78;
        let started = with(|control| control.min_recovery_point = Some(Lsn(end)));
        let after = stop(StopSide::After, CHECKPOINT.0, end);
        assert_eq!(barred(&started, &after), Err(Bar::Checkpoint(CHECKPOINT)));
        assert_eq!(barred(&started, &stop(StopSide::Before, end, end + 8)), Ok(()));
    }

    #[test]
    fn only_a_copy_of_which_everything_is_known_goes_on() {
        let ahead = stop(StopSide::After, 0x400_0028, 0x400_0060);
        let why = |copy: &Standing| barred(copy, &ahead).unwrap_err();
        assert_eq!(why(&Standing { reached: None, ..copy() }), Bar::Unknown);
        assert_eq!(why(&Standing { control: Err("no".to_owned()), ..copy() }), Bar::Control("no".to_owned()));
        let other = Standing { timeline: TimelineId(2), ..copy() };
        assert_eq!(why(&other), Bar::Timeline(TimelineId(2), TimelineId(1)));
        for state in [ClusterState::InProduction, ClusterState::InCrashRecovery, ClusterState::ShutDown] {
            assert_eq!(why(&with(|control| control.state = state)), Bar::State(state));
        }
        assert_eq!(barred(&with(|control| control.state = ClusterState::ShutDownInRecovery), &ahead), Ok(()));
        assert_eq!(why(&with(|control| control.min_recovery_point = None)), Bar::Inconsistent);
        assert_eq!(why(&with(|control| control.backup_end_required = true)), Bar::Inconsistent);
        assert_eq!(why(&with(|control| control.backup_start = Some(REDO))), Bar::Inconsistent);
        assert_eq!(why(&with(|control| control.backup_end = Some(REDO))), Bar::Inconsistent);
        let elsewhere = with(|control| control.min_recovery_timeline = TimelineId(2));
        assert_eq!(why(&elsewhere), Bar::Timeline(TimelineId(2), TimelineId(1)));
    }

    #[test]
    fn a_copy_behind_a_fork_goes_on_behind_it_only() {
        let along = |lsn: u64| Resolved {
            timeline: TimelineId(2),
            path: vec![TimelineId(1), TimelineId(2)],
            forks: vec![Lsn(0x300_0400)],
            ..stop(StopSide::Before, lsn, lsn)
        };
        let there = |control: Standing| Standing { timeline: TimelineId(2), ..control };
        let on_two = there(with(|control| control.min_recovery_timeline = TimelineId(2)));
        assert_eq!(barred(&on_two, &along(0x300_0800)), Ok(()));
        // Its files have what timeline 1 went on with.
        assert!(matches!(barred(&there(copy()), &along(0x300_0800)), Err(Bar::Timeline(..))));
        // Up to the fork itself they are the same.
        let at_fork = there(with(|control| control.min_recovery_point = Some(Lsn(0x300_0400))));
        assert_eq!(barred(&at_fork, &along(0x300_0800)), Ok(()));
    }

    #[test]
    fn a_server_that_goes_on_has_to_stop_at_the_very_same_place() {
        let target = Target { inclusive: false, ..Target::new(TargetKind::Xid(Xid(735))) };
        let wanted = stop(StopSide::Before, 0x300_0700, 0x300_0740);
        let on = |stop, behind| barred_ahead(&target, &wanted, &Ahead { stop, behind });
        assert_eq!(on(Ok(wanted.clone()), Behind::Nothing), Ok(()));
        let nowhere = Unreachable::NotReached { end: Lsn(1), last: None, last_record: None };
        assert_eq!(on(Err(nowhere), Behind::Nothing), Err(Bar::Elsewhere(None)));
        let later = stop(StopSide::Before, 0x300_0780, 0x300_07c0);
        assert_eq!(on(Ok(later.clone()), Behind::Nothing), Err(Bar::Elsewhere(Some(later.lsn))));
        let after = stop(StopSide::After, 0x300_0700, 0x300_0740);
        assert_eq!(on(Ok(after), Behind::Nothing), Err(Bar::Elsewhere(Some(wanted.lsn))));
        let unreadable = Resolved { is_readable: false, ..wanted.clone() };
        assert_eq!(on(Ok(unreadable.clone()), Behind::Nothing), Err(Bar::Unreadable));
        let down = Target { action: Action::Shutdown, ..target.clone() };
        let ahead = Ahead { stop: Ok(unreadable), behind: Behind::Nothing };
        assert_eq!(barred_ahead(&down, &wanted, &ahead), Ok(()), "nobody has to read it there");
        let gone = Behind::Lasting(Lsn(0x300_0800), "a database was dropped");
        assert_eq!(on(Ok(wanted.clone()), gone), Err(Bar::Lasting(Lsn(0x300_0800), "a database was dropped")));
        assert_eq!(on(Ok(wanted.clone()), Behind::Unread(Lsn(9))), Err(Bar::Unread(Lsn(9))));
    }

    #[test]
    fn a_step_adds_one_commit_or_takes_one_away() {
        let place = |lsn, xid| Place { lsn: Lsn(lsn), xid: Some(Xid(xid)), at: None };
        let (last_kept, first_lost) = (Some(place(0x300_0600, 734)), Some(place(0x300_0700, 735)));
        let here = Resolved { last_kept, first_lost, ..stop(StopSide::Before, 0x300_0700, 0x300_0740) };
        let words = |step: StepTo| step.target(&here, Action::Pause).map(|target| target.to_options().join(" "));
        assert_eq!(words(StepTo::Next).as_deref(), Some("--xid 735 --timeline 1"));
        assert_eq!(words(StepTo::Previous).as_deref(), Some("--xid 734 --exclusive --timeline 1"));
        let alone = Resolved { last_kept: None, first_lost: None, ..here };
        assert_eq!(StepTo::Next.target(&alone, Action::Pause), None);
        assert_eq!(StepTo::Previous.target(&alone, Action::Pause), None);
    }

    #[test]
    fn the_operator_reads_which_way_why_and_how_long() {
        let estimate = |bytes, wal, seconds| Estimate {
            unpack_bytes: bytes,
            wal_bytes: wal,
            total_s: Some(seconds),
            ..Estimate::default()
        };
        let unpack = Otherwise { strategy: Strategy::Unpack, estimate: estimate(41_000_000_000, 2_000_000, 420.0) };
        let approach = Approach {
            strategy: Strategy::InPlace,
            why: String::new(),
            estimate: estimate(0, 2_000_000, 2.0),
            otherwise: Some(unpack.clone()),
        };
        let words = approach.in_words();
        assert!(
            words.starts_with("goes there in place (") && words.contains("else it unpacks the base backup"),
            "{words}"
        );
        assert!(words.contains("38.2 GB") && words.contains("about 7 min"), "{words}");
        let why = Bar::Written(WRITTEN).to_string();
        let back = Approach { strategy: unpack.strategy, why, estimate: unpack.estimate, otherwise: None }.in_words();
        assert!(back.starts_with("unpacks") && back.ends_with("behind the target"), "{back}");
    }

    proptest! {
        /// Whatever pg_control says, nobody is let through whose files have changes from behind the stop.
        #[test]
        fn no_copy_goes_back_across_its_own_files(
            redo in 0u64..400, checkpoint in 0u64..400, written in 0u64..400, lsn in 0u64..400, length in 1u64..20,
            before: bool,
        ) {
            let lsns = |n: u64| Lsn(0x300_0000 + n * 8);
            let copy = with(|control| {
                (control.redo, control.checkpoint) = (lsns(redo), lsns(checkpoint));
                control.min_recovery_point = Some(lsns(written));
            });
            let side = if before { StopSide::Before } else { StopSide::After };
            let stop = stop(side, lsns(lsn).0, lsns(lsn + length).0);
            let let_through = barred(&copy, &stop).is_ok();
            prop_assert_eq!(let_through, stop.replay_end >= lsns(written) && stop.lsn > lsns(checkpoint));
        }
    }
}
