//! From a target to the record at which PostgreSQL will stop for it. Pure: records are fed in, nothing is read.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::core::{Lsn, Target, TargetKind, TimelineId, TimelinePath, Xid};
use crate::wal::summary::MarkKind;
use crate::wal::{Body, Outcome, Record, Summary};

/// On which side of its record recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopSide {
    /// The record is not replayed.
    Before,
    /// The record is the last one replayed.
    After,
    /// After the last record that there is.
    EndOfWal,
    /// As soon as the data is consistent.
    Consistency,
}

/// A transaction's end in WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where its commit or abort record starts.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: Option<Xid>,
    /// The time in the record.
    pub at: Option<Timestamp>,
}

/// A resolved target: where recovery will stop, predicted from WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The timeline that recovery follows, as a number.
    pub timeline: TimelineId,
    /// The timelines from the base backup to there.
    pub path: Vec<TimelineId>,
    /// Where each of these but the last was left, in their order.
    #[serde(default)]
    pub forks: Vec<Lsn>,
    /// On which side of the record.
    pub stop: StopSide,
    /// Where the record starts at which recovery stops.
    pub lsn: Lsn,
    /// How far replay will have come: the end of the last record replayed.
    pub replay_end: Lsn,
    /// The transaction that the record ends, where it ends one.
    pub xid: Option<Xid>,
    /// The time in the record, where it has one.
    pub at: Option<Timestamp>,
    /// The restore point's name, as it stands in WAL.
    pub name: Option<String>,
    /// Where the data becomes consistent: nothing before it can be recovered from this backup.
    pub consistent_at: Lsn,
    /// The last transaction that is kept: its commit is replayed.
    pub last_kept: Option<Place>,
    /// The first transaction that is lost: the first commit that is not replayed.
    pub first_lost: Option<Place>,
    /// The other transactions that ended at the very same time as the one at the stop.
    pub ambiguous: Vec<Place>,
    /// The base backups that lead there, the best one first.
    pub backups: Vec<String>,
    /// What the server is told instead of the target as it was given; `None` where it is told just that.
    #[serde(default)]
    pub told: Option<Target>,
    /// How many commits lie behind the stop up to the end of WAL; `None` where they were not counted.
    #[serde(default)]
    pub commits_lost: Option<u64>,
    /// The last commit in WAL, where it is not replayed.
    #[serde(default)]
    pub last_lost: Option<Place>,
    /// The other restore points of the same name further on: the server stops at the first.
    #[serde(default)]
    pub named_again: Vec<Place>,
    /// Whether the server answers queries at the stop; only then it can pause there.
    #[serde(default = "yes")]
    pub is_readable: bool,
    /// What keeps relations locked at the stop.
    #[serde(default)]
    pub locked: Vec<Locked>,
    /// The least settings that the records on the way ask for.
    #[serde(default)]
    pub requires: Option<Requirements>,
    /// The places at which “before this transaction” can stop, in the order of WAL; empty where there is but one.
    #[serde(default)]
    pub before: Vec<StopBefore>,
}

fn yes() -> bool {
    true
}

impl Resolved {
    /// A stop at the record at `lsn`, of which nothing else is known.
    #[must_use]
    pub fn new(timeline: TimelineId, stop: StopSide, lsn: Lsn) -> Resolved {
        Resolved {
            timeline,
            path: vec![timeline],
            forks: Vec::new(),
            stop,
            lsn,
            replay_end: lsn,
            xid: None,
            at: None,
            name: None,
            consistent_at: lsn,
            last_kept: None,
            first_lost: None,
            ambiguous: Vec::new(),
            backups: Vec::new(),
            told: None,
            commits_lost: None,
            last_lost: None,
            named_again: Vec::new(),
            is_readable: true,
            locked: Vec::new(),
            requires: None,
            before: Vec::new(),
        }
    }
}

/// Relations that stay locked while recovery is paused: a transaction took `ACCESS EXCLUSIVE` locks before the stop and
/// ends behind it. Who reads them waits until the server is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The transaction.
    pub xid: Xid,
    /// Where its first lock's record starts: whoever stops before it can read everything.
    pub from: Lsn,
    /// How many relations.
    pub relations: u64,
}

/// The least values of settings with which a server in recovery goes on (`CheckRequiredParameterValues`,
/// `xlogrecovery.c` of 15 to 18, `xlog.c` of 13 and 14): those of the server that wrote the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requirements {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

impl Requirements {
    /// Enough for both.
    #[must_use]
    pub fn and(self, other: Requirements) -> Requirements {
        Requirements {
            max_connections: self.max_connections.max(other.max_connections),
            max_worker_processes: self.max_worker_processes.max(other.max_worker_processes),
            max_wal_senders: self.max_wal_senders.max(other.max_wal_senders),
            max_prepared_transactions: self.max_prepared_transactions.max(other.max_prepared_transactions),
            max_locks_per_transaction: self.max_locks_per_transaction.max(other.max_locks_per_transaction),
        }
    }

    /// The settings by their names.
    #[must_use]
    pub fn settings(self) -> [(&'static str, u32); 5] {
        [
            ("max_connections", self.max_connections),
            ("max_worker_processes", self.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders),
            ("max_prepared_transactions", self.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction),
        ]
    }
}

/// Which of the places “before this transaction” is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeforeWhat {
    /// Before its commit: everything that committed meanwhile is kept; what it locked stays locked.
    Commit,
    /// Before its first lock: everything can be read; what committed since then is lost.
    FirstLock,
    /// Before it marked the first database as being dropped: later, that one's files are gone.
    DatabaseDrop,
}

/// A place at which “before this transaction” can stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopBefore {
    /// Which one.
    pub what: BeforeWhat,
    /// The record before which recovery stops.
    pub lsn: Lsn,
    /// How many commits between here and its own commit are lost by stopping here.
    pub commits_lost: u64,
    /// Whether everything that the transaction destroys can be read while recovery is paused here.
    pub is_readable: bool,
    /// Whether everything that the transaction destroys is still there after stopping here.
    pub saves: bool,
    /// Whether this is where the plan stops.
    pub chosen: bool,
    /// The TARGET options that stop here.
    pub target: Vec<String>,
}

/// Why no place in WAL belongs to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// Recovery would stop before the data is consistent, which the server refuses.
    BeforeConsistency {
        /// Where it would stop.
        stop: Lsn,
        /// The time in the record there.
        at: Option<Timestamp>,
        /// Where the base backup ended, where that is known.
        consistent_at: Option<Lsn>,
    },
    /// The WAL that there is ends before the target.
    NotReached {
        /// Where WAL ends.
        end: Lsn,
        /// The last transaction in it.
        last: Option<Place>,
        /// The transaction whose subtransaction was asked for: the server never stops at a subtransaction.
        top_level: Option<Xid>,
    },
}

/// Finds the record at which recovery from one base backup stops, by doing what the server does with each record
/// (`recoveryStopsBefore`, `recoveryStopsAfter`, `CheckRecoveryConsistency`; `xlogrecovery.c` of 15 to 18, `xlog.c`
/// of 13 and 14): look whether to stop before it, replay it, look whether to stop after it.
#[derive(Debug)]
pub struct Resolver<'a> {
    target: &'a Target,
    path: &'a TimelinePath,
    backup_start: Lsn,
    /// Where the backup says that it ended.
    backup_stop: Option<Lsn>,
    consistent_at: Option<Lsn>,
    replay_end: Lsn,
    last_record: Option<Lsn>,
    last_kept: Option<Place>,
    last_ended: Option<Place>,
    top_level: Option<Xid>,
    /// The transactions that ended at the time of the last one that ended.
    same_time: Vec<Place>,
    stop: Option<Stop>,
    first_lost: Option<Place>,
}

#[derive(Debug, Clone)]
struct Stop {
    side: StopSide,
    lsn: Lsn,
    place: Option<Place>,
    at: Option<Timestamp>,
    name: Option<String>,
}

impl<'a> Resolver<'a> {
    /// For recovery to `target` along `path` from a base backup that started at `backup_start`. Where it ended is told
    /// by its own record, or by `backup_stop` for one from a standby, which has no such record: one that names the same
    /// start is that of a backup of the primary. The records are to be fed from `backup_start` on.
    #[must_use]
    pub fn new(target: &'a Target, path: &'a TimelinePath, backup_start: Lsn, backup_stop: Option<Lsn>) -> Self {
        Resolver {
            target,
            path,
            backup_start,
            backup_stop,
            consistent_at: None,
            replay_end: backup_start,
            last_record: None,
            last_kept: None,
            last_ended: None,
            top_level: None,
            same_time: Vec::new(),
            stop: None,
            first_lost: None,
        }
    }

    /// Takes the next record. Breaks when nothing further on can change the answer.
    pub fn feed(&mut self, record: &Record) -> ControlFlow<()> {
        let ended = ended_transaction(record);
        if self.stop.is_some() {
            return self.look_beyond(record, ended);
        }
        self.note_time(ended);
        if self.stops_before(record) {
            return self.stop_at(StopSide::Before, record, ended);
        }
        self.replay(record, ended);
        if self.target.kind == TargetKind::Immediate && self.consistent_at.is_some() {
            return self.stop_at(StopSide::Consistency, record, ended);
        }
        if self.stops_after(record) {
            return self.stop_at(StopSide::After, record, ended);
        }
        ControlFlow::Continue(())
    }

    /// Says that records were left out which do not matter, of which the last one starts at `last` and ends at `end`.
    pub fn pass(&mut self, last: Lsn, end: Lsn) {
        if !self.has_stopped() {
            (self.last_record, self.replay_end) = (Some(last), end);
        }
    }

    /// What is looked for.
    #[must_use]
    pub fn target(&self) -> &'a Target {
        self.target
    }

    /// Whether the data is consistent behind what was fed.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.consistent_at.is_some()
    }

    /// Where the data became consistent, as far as was fed.
    #[must_use]
    pub fn consistent_at(&self) -> Option<Lsn> {
        self.consistent_at
    }

    /// Where the last record starts that was replayed.
    #[must_use]
    pub fn last_record(&self) -> Option<Lsn> {
        self.last_record
    }

    /// Whether the stop was found. What is fed behind it only tells what comes next.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether the records of this segment can be where recovery stops, or tell what comes behind the stop. The data
    /// has to be consistent before it. Of those for which this is not so, only the last that ended before matter.
    #[must_use]
    pub fn may_matter(&self, segment: &Summary) -> bool {
        if self.has_stopped() {
            return segment.times.is_some();
        }
        match &self.target.kind {
            TargetKind::Time(time) => {
                segment.times.is_some_and(|(_, latest)| latest > *time || (!self.target.inclusive && latest == *time))
            }
            TargetKind::Lsn(lsn) => segment.last.is_some_and(|last| last >= *lsn),
            TargetKind::Xid(xid) => segment.may_end(*xid),
            TargetKind::Name(wanted) => segment
                .marks
                .iter()
                .any(|mark| matches!(&mark.kind, MarkKind::RestorePoint(name) if name == wanted.as_str())),
            TargetKind::Immediate => true,
            TargetKind::Latest => false,
        }
    }

    fn stops_before(&self, record: &Record) -> bool {
        let inclusive = self.target.inclusive;
        match (&self.target.kind, outcome(record)) {
            (TargetKind::Lsn(lsn), _) => !inclusive && record.lsn >= *lsn,
            (TargetKind::Xid(xid), Some(outcome)) => !inclusive && outcome.xid == *xid,
            (TargetKind::Time(time), Some(outcome)) => outcome.at > *time || (!inclusive && outcome.at == *time),
            _ => false,
        }
    }

    fn stops_after(&self, record: &Record) -> bool {
        match (&self.target.kind, &record.body) {
            (TargetKind::Lsn(lsn), _) => self.target.inclusive && record.lsn >= *lsn,
            (TargetKind::Name(wanted), Body::RestorePoint { name, .. }) => name == wanted.as_str(),
            (TargetKind::Xid(xid), _) => {
                self.target.inclusive && outcome(record).is_some_and(|outcome| outcome.xid == *xid)
            }
            _ => false,
        }
    }

    fn replay(&mut self, record: &Record, ended: Option<Place>) {
        self.replay_end = record.end_lsn;
        self.last_record = Some(record.lsn);
        if matches!(record.body, Body::Commit(_)) {
            self.last_kept = ended;
        }
        let backup_ended = match self.backup_stop {
            Some(stop) => record.end_lsn >= stop,
            None => matches!(record.body, Body::BackupEnd { start } if start == self.backup_start),
        };
        if backup_ended {
            self.consistent_at.get_or_insert(record.end_lsn);
        }
        if let (TargetKind::Xid(xid), Some(outcome)) = (&self.target.kind, outcome(record))
            && outcome.subxacts.contains(xid)
        {
            self.top_level = Some(outcome.xid);
        }
    }

    fn note_time(&mut self, ended: Option<Place>) {
        let Some(place) = ended else { return };
        if self.same_time.last().is_some_and(|last| last.at != place.at) {
            self.same_time.clear();
        }
        self.same_time.push(place);
        self.last_ended = Some(place);
    }

    fn stop_at(&mut self, side: StopSide, record: &Record, place: Option<Place>) -> ControlFlow<()> {
        let (name, at) = match &record.body {
            Body::RestorePoint { name, at } => (Some(name.clone()), Some(*at)),
            _ => (None, place.and_then(|place| place.at)),
        };
        self.stop = Some(Stop { side, lsn: record.lsn, place, at, name });
        if side == StopSide::Before && matches!(record.body, Body::Commit(_)) {
            self.first_lost = place;
        }
        ControlFlow::Continue(())
    }

    /// Behind the stop: who else ended at the same time, and who is the first to be lost.
    fn look_beyond(&mut self, record: &Record, ended: Option<Place>) -> ControlFlow<()> {
        let Some(place) = ended else { return ControlFlow::Continue(()) };
        let stopped_at = self.stop.as_ref().and_then(|stop| stop.place).and_then(|place| place.at);
        let same_time = stopped_at.is_some() && stopped_at == place.at;
        if same_time {
            self.same_time.push(place);
        }
        if matches!(record.body, Body::Commit(_)) {
            self.first_lost.get_or_insert(place);
        }
        if self.first_lost.is_some() && !same_time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The answer, when WAL has been fed up to the stop or to its end at `end`.
    ///
    /// # Errors
    /// When the server would not stop for this target, or not be consistent where it stops.
    pub fn finish(self, end: Lsn) -> Result<Resolved, Unreachable> {
        let stop = match self.stop.clone() {
            Some(stop) => stop,
            None => self.stop_at_end(end)?,
        };
        let Some(consistent_at) = self.consistent_at else {
            return Err(Unreachable::BeforeConsistency {
                stop: stop.lsn,
                at: stop.at,
                consistent_at: self.backup_stop,
            });
        };
        let ambiguous = match stop.place {
            Some(place) => self.same_time.into_iter().filter(|other| other.lsn != place.lsn).collect(),
            None => Vec::new(),
        };
        let reached = self.path.timeline_at(stop.lsn).unwrap_or(self.path.last());
        let path = path_until(self.path, self.backup_start, reached);
        let forks = path.iter().filter_map(|id| self.path.end_of(*id).flatten()).take(path.len().saturating_sub(1));
        Ok(Resolved {
            forks: forks.collect(),
            path,
            replay_end: self.replay_end,
            xid: stop.place.and_then(|place| place.xid),
            at: stop.at,
            name: stop.name,
            consistent_at,
            last_kept: self.last_kept,
            first_lost: self.first_lost,
            ambiguous,
            ..Resolved::new(self.path.last(), stop.side, stop.lsn)
        })
    }

    fn stop_at_end(&self, end: Lsn) -> Result<Stop, Unreachable> {
        match (&self.target.kind, self.last_record) {
            (TargetKind::Latest, Some(lsn)) => {
                Ok(Stop { side: StopSide::EndOfWal, lsn, place: None, at: None, name: None })
            }
            // Its WAL has everything but the backup's end.
            (TargetKind::Immediate, _) => {
                Err(Unreachable::BeforeConsistency { stop: end, at: None, consistent_at: self.backup_stop })
            }
            _ => Err(Unreachable::NotReached { end, last: self.last_ended, top_level: self.top_level }),
        }
    }
}

fn outcome(record: &Record) -> Option<&Outcome> {
    match &record.body {
        Body::Commit(outcome) | Body::Abort(outcome) => Some(outcome),
        _ => None,
    }
}

fn ended_transaction(record: &Record) -> Option<Place> {
    outcome(record).map(|outcome| Place { lsn: record.lsn, xid: Some(outcome.xid), at: Some(outcome.at) })
}

/// The timelines of `path` from the one that `start` lies on to `last`.
fn path_until(path: &TimelinePath, start: Lsn, last: TimelineId) -> Vec<TimelineId> {
    let first = path.timeline_at(start);
    let ids = path.stretches().iter().map(|stretch| stretch.timeline);
    let mut on_the_way: Vec<TimelineId> = ids.skip_while(|id| Some(*id) != first).collect();
    if let Some(position) = on_the_way.iter().position(|id| *id == last) {
        on_the_way.truncate(position + 1);
    }
    on_the_way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{RestorePointName, TimelineChoice};
    use crate::wal::RelFileLocator;
    use proptest::prelude::*;

    const BACKUP_START: Lsn = Lsn(0x100);

    fn second(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second).unwrap()
    }

    fn record(lsn: u64, body: Body) -> Record {
        let timeline = TimelineId(1);
        Record { lsn: Lsn(lsn), end_lsn: Lsn(lsn + 0x10), timeline, previous: None, xid: None, rmgr: 1, info: 0, body }
    }

    fn outcome_of(xid: u32, at: i64) -> Outcome {
        Outcome {
            at: second(at),
            xid: Xid(xid),
            prepared: false,
            subxacts: vec![Xid(xid + 500)],
            dropped: Vec::new(),
            dropped_statistics: Vec::new(),
            origin: None,
        }
    }

    fn commit(lsn: u64, xid: u32, at: i64) -> Record {
        record(lsn, Body::Commit(outcome_of(xid, at)))
    }

    /// A backup from 0x100 to 0x130, then two transactions at the same time, an abort, a restore point twice, and a
    /// transaction whose commit time lies before that of the one before it.
    fn history() -> Vec<Record> {
        let point = |lsn, name: &str, at| record(lsn, Body::RestorePoint { name: name.to_owned(), at: second(at) });
        vec![
            record(0x100, Body::Other),
            commit(0x110, 10, 5),
            record(0x120, Body::BackupEnd { start: BACKUP_START }),
            commit(0x140, 11, 20),
            commit(0x150, 12, 20),
            point(0x160, "deploy", 25),
            record(0x170, Body::Abort(outcome_of(13, 30))),
            commit(0x180, 14, 28),
            point(0x190, "deploy", 35),
            record(
                0x1A0,
                Body::Commit(Outcome {
                    dropped: vec![RelFileLocator { tablespace: 1663, database: 5, relation: 16384 }],
                    ..outcome_of(15, 40)
                }),
            ),
            record(0x1B0, Body::Other),
        ]
    }

    fn resolve(target: &Target, records: &[Record]) -> Result<Resolved, Unreachable> {
        let path = TimelinePath::new(&[], TimelineId(1));
        let mut resolver = Resolver::new(target, &path, BACKUP_START, Some(Lsn(0x130)));
        let broke = records.iter().find(|record| resolver.feed(record).is_break());
        let end = broke.or(records.last()).map_or(BACKUP_START, |record| record.end_lsn);
        resolver.finish(end)
    }

    fn target(kind: TargetKind, inclusive: bool) -> Target {
        Target { inclusive, timeline: TimelineChoice::Current, ..Target::new(kind) }
    }

    /// (side, record, end of replay, last kept xid, first lost xid)
    type Answer = (StopSide, u64, u64, Option<u32>, Option<u32>);

    fn check(kind: TargetKind, inclusive: bool, expected: Answer) {
        let resolved = resolve(&target(kind.clone(), inclusive), &history()).unwrap();
        let xid = |place: Option<Place>| place.and_then(|place| place.xid).map(|xid| xid.0);
        let answer =
            (resolved.stop, resolved.lsn.0, resolved.replay_end.0, xid(resolved.last_kept), xid(resolved.first_lost));
        assert_eq!(answer, expected, "{kind:?}, inclusive {inclusive}");
    }

    #[test]
    fn a_backup_of_a_standby_does_not_end_where_one_of_the_primary_with_the_same_start_does() {
        let (target, path) = (target(TargetKind::Immediate, true), TimelinePath::new(&[], TimelineId(1)));
        let consistent_at = |backup_stop| {
            let mut resolver = Resolver::new(&target, &path, BACKUP_START, backup_stop);
            history().iter().find(|record| resolver.feed(record).is_break());
            resolver.finish(Lsn(0x1C0)).unwrap().consistent_at
        };
        assert_eq!(consistent_at(None), Lsn(0x130));
        assert_eq!(consistent_at(Some(Lsn(0x150))), Lsn(0x150));
    }

    #[test]
    fn stops_where_the_server_does() {
        use StopSide::{After, Before, Consistency, EndOfWal};
        let name = || TargetKind::Name(RestorePointName::try_from("deploy".to_owned()).unwrap());
        check(TargetKind::Xid(Xid(12)), true, (After, 0x150, 0x160, Some(12), Some(14)));
        check(TargetKind::Xid(Xid(12)), false, (Before, 0x150, 0x150, Some(11), Some(12)));
        // An abort stops too, and keeps nothing more than what was before it.
        check(TargetKind::Xid(Xid(13)), true, (After, 0x170, 0x180, Some(12), Some(14)));
        // The first of two restore points of one name.
        check(name(), true, (After, 0x160, 0x170, Some(12), Some(14)));
        // Up to and with a time: everything that shares it.
        check(TargetKind::Time(second(20)), true, (Before, 0x170, 0x170, Some(12), Some(14)));
        check(TargetKind::Time(second(20)), false, (Before, 0x140, 0x130, Some(10), Some(11)));
        // Transaction 14 committed at 28, behind an abort at 30: the abort ends recovery.
        check(TargetKind::Time(second(29)), true, (Before, 0x170, 0x170, Some(12), Some(14)));
        // Between two records, the next one counts.
        check(TargetKind::Lsn(Lsn(0x145)), true, (After, 0x150, 0x160, Some(12), Some(14)));
        check(TargetKind::Lsn(Lsn(0x145)), false, (Before, 0x150, 0x150, Some(11), Some(12)));
        check(TargetKind::Immediate, true, (Consistency, 0x120, 0x130, Some(10), Some(11)));
        check(TargetKind::Latest, true, (EndOfWal, 0x1B0, 0x1C0, Some(15), None));
    }

    #[test]
    fn who_shares_the_time_is_told() {
        let resolved = resolve(&target(TargetKind::Xid(Xid(11)), true), &history()).unwrap();
        let others: Vec<_> = resolved.ambiguous.iter().map(|place| place.xid).collect();
        assert_eq!(others, [Some(Xid(12))]);
        let later = resolve(&target(TargetKind::Xid(Xid(12)), false), &history()).unwrap();
        assert_eq!(later.ambiguous.iter().map(|place| place.xid).collect::<Vec<_>>(), [Some(Xid(11))]);
    }

    #[test]
    fn before_the_backup_is_consistent_nothing_can_be_had() {
        for kind in [TargetKind::Xid(Xid(10)), TargetKind::Time(second(4)), TargetKind::Lsn(Lsn(0x110))] {
            let answer = resolve(&target(kind.clone(), true), &history());
            assert!(matches!(answer, Err(Unreachable::BeforeConsistency { .. })), "{kind:?}: {answer:?}");
        }
    }

    #[test]
    fn a_target_that_is_not_there_is_not_reached_and_a_subtransaction_names_its_parent() {
        let answer = resolve(&target(TargetKind::Xid(Xid(514)), true), &history());
        let Err(Unreachable::NotReached { last, top_level, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!((last.and_then(|place| place.xid), top_level), (Some(Xid(15)), Some(Xid(14))));
        let late = resolve(&target(TargetKind::Time(second(40)), true), &history());
        assert!(matches!(late, Err(Unreachable::NotReached { .. })), "no record is later: {late:?}");
    }

    #[test]
    fn a_backup_from_a_standby_has_no_end_record_but_an_end() {
        let mut records = history();
        records.retain(|record| !matches!(record.body, Body::BackupEnd { .. }));
        let resolved = resolve(&target(TargetKind::Immediate, true), &records).unwrap();
        assert_eq!((resolved.stop, resolved.replay_end), (StopSide::Consistency, Lsn(0x150)));
    }

    #[test]
    fn the_path_ends_on_the_timeline_that_recovery_stops_on() {
        let path = TimelinePath::new(&[(TimelineId(1), Lsn(0x155)), (TimelineId(2), Lsn(0x185))], TimelineId(3));
        let way = |kind| {
            let target = target(kind, true);
            let mut resolver = Resolver::new(&target, &path, BACKUP_START, Some(Lsn(0x130)));
            for record in history() {
                let _ = resolver.feed(&record);
            }
            let resolved = resolver.finish(Lsn(0x1C0)).unwrap();
            (resolved.timeline.0, resolved.path.iter().map(|id| id.0).collect::<Vec<_>>())
        };
        assert_eq!(way(TargetKind::Xid(Xid(11))), (3, vec![1]));
        assert_eq!(way(TargetKind::Xid(Xid(13))), (3, vec![1, 2]));
        assert_eq!(way(TargetKind::Latest), (3, vec![1, 2, 3]));
    }

    proptest! {
        /// Everything before the stop is kept, nothing behind it is, whatever the times are.
        #[test]
        fn a_time_keeps_the_commits_before_the_first_later_end(times in prop::collection::vec(0i64..50, 1..40), wanted in 0i64..50, inclusive: bool) {
            let mut records = vec![record(0x120, Body::BackupEnd { start: BACKUP_START })];
            records.extend(times.iter().enumerate().map(|(i, at)| commit(0x200 + i as u64 * 0x10, 100 + i as u32, *at)));
            let first_later = times.iter().position(|at| if inclusive { *at > wanted } else { *at >= wanted });
            match resolve(&target(TargetKind::Time(second(wanted)), inclusive), &records) {
                Ok(resolved) => {
                    let stop = first_later.unwrap();
                    prop_assert_eq!(resolved.lsn, Lsn(0x200 + stop as u64 * 0x10));
                    prop_assert_eq!(resolved.first_lost.and_then(|p| p.xid), Some(Xid(100 + stop as u32)));
                    let kept = resolved.last_kept.and_then(|p| p.xid);
                    prop_assert_eq!(kept, stop.checked_sub(1).map(|last| Xid(100 + last as u32)));
                }
                Err(_) => prop_assert_eq!(first_later, None),
            }
        }
    }
}
