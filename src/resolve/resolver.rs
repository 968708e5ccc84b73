//! Does with each record what the server does, until it stops; and looks at what lies behind.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use crate::core::time::Timestamp;
use crate::core::{Lsn, Target, TargetKind, TimelineId, TimelinePath, Xid};
use crate::wal::summary::{End, MarkKind};
use crate::wal::{Body, Locks, Outcome, ParameterChange, Record, Summary};

use super::accident::Drops;
use super::standby::Standby;
use super::{BeforeWhat, Dropping, Locked, Place, Requirements, Resolved, StopBefore, StopSide, Unreachable};

/// Of so many transactions that ended last is remembered when.
const REMEMBERED: usize = 1 << 16;

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
    standby: Standby,
    /// The oldest transaction that ran where who runs was listed first.
    oldest_at_start: Option<Xid>,
    /// Where a server that was stopped on the way starts again, and what it knows from there on.
    restarted: Option<(Lsn, Standby)>,
    /// The first record after which the server answers queries.
    readable_from: Option<Lsn>,
    replay_end: Lsn,
    last_record: Option<Lsn>,
    last_kept: Option<Place>,
    last_ended: Option<Place>,
    requires: Option<Requirements>,
    locks: Locks,
    drops: Drops,
    /// The last transactions that ended in what was fed.
    ended: VecDeque<Place>,
    /// What was left out: where the first record starts, the earliest and the latest time.
    passed: Vec<(Lsn, Timestamp, Timestamp)>,
    /// The transactions that ended at the time of the one at the stop.
    same_time: BTreeMap<Lsn, Place>,
    stop: Option<Stop>,
    behind: Behind,
}

#[derive(Debug, Clone)]
struct Stop {
    side: StopSide,
    lsn: Lsn,
    place: Option<Place>,
    at: Option<Timestamp>,
    name: Option<String>,
    is_readable: bool,
    locked: Vec<Locked>,
    dropping: Vec<Dropping>,
    /// Where a commit that is not replayed took its first lock, and where it began to drop a database.
    begun: (Option<Lsn>, Option<Lsn>),
}

/// What lies behind the stop.
#[derive(Debug, Clone, Default)]
struct Behind {
    first_lost: Option<Place>,
    commits: u64,
    last_lost: Option<Place>,
    named_again: Vec<Place>,
    /// A transaction ended there at another time than the one at the stop.
    past_time: bool,
    /// All of it was counted.
    is_counted: bool,
    /// Where counting came to an end too early.
    counted_to: Option<Lsn>,
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
            standby: Standby::default(),
            oldest_at_start: None,
            restarted: None,
            readable_from: None,
            replay_end: backup_start,
            last_record: None,
            last_kept: None,
            last_ended: None,
            requires: None,
            locks: Locks::default(),
            drops: Drops::default(),
            ended: VecDeque::new(),
            passed: Vec::new(),
            same_time: BTreeMap::new(),
            stop: None,
            behind: Behind::default(),
        }
    }

    /// Whether this transaction had ended when the base backup began, as far as was read, or it never was.
    #[must_use]
    pub fn was_over(&self, xid: Xid) -> bool {
        self.oldest_at_start.is_some_and(|oldest| xid.precedes(oldest))
    }

    /// The same for a server that was stopped on the way, and starts again at `redo`: it has to learn anew who runs.
    #[must_use]
    pub fn restarting_at(self, redo: Lsn) -> Self {
        Resolver { restarted: Some((redo, Standby::default())), ..self }
    }

    /// For a server that goes on: it starts at `redo`, having recovered before, and is consistent from
    /// `min_recovery_point` on (`CheckRecoveryConsistency`). The records are to be fed from `redo` on.
    #[must_use]
    pub fn going_on(target: &'a Target, path: &'a TimelinePath, redo: Lsn, min_recovery_point: Lsn) -> Self {
        let consistent_at = (redo >= min_recovery_point).then_some(redo);
        Resolver { consistent_at, ..Resolver::new(target, path, redo, Some(min_recovery_point)) }
    }

    /// Takes the next record. Breaks when nothing further on can change the answer, but for what is counted behind the
    /// stop.
    pub fn feed(&mut self, record: &Record) -> ControlFlow<()> {
        let ended = ended_transaction(record);
        if self.stop.is_some() {
            return self.look_beyond(record, ended);
        }
        if let Some(place) = ended {
            self.remember(place);
        }
        if self.stops_before(record) {
            self.stop_at(StopSide::Before, record, ended);
            return self.look_beyond(record, ended);
        }
        self.replay(record, ended);
        if self.target.kind == TargetKind::Immediate && self.consistent_at.is_some() {
            self.stop_at(StopSide::Consistency, record, ended);
        } else if self.stops_after(record) {
            self.stop_at(StopSide::After, record, ended);
        }
        if self.has_failed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Takes the records of a whole segment that do not matter one by one, by what is known of them.
    pub fn pass_over(&mut self, segment: &Summary) {
        if self.has_stopped() {
            return self.pass_behind(segment);
        }
        self.locks.pass_over(&segment.locks);
        self.drops.pass_over(segment);
        segment.parameter_changes.iter().for_each(|(_, change)| self.require(change));
        if let Some(last) = segment.last {
            (self.last_record, self.replay_end) = (Some(last), segment.end);
        }
        self.last_kept = segment.last_commit.map(place_of).or(self.last_kept);
        self.last_ended = segment.last_end.map(place_of).or(self.last_ended);
        if let (Some(first), Some((earliest, latest))) = (segment.first, segment.times) {
            self.passed.push((first, earliest, latest));
        }
    }

    fn pass_behind(&mut self, segment: &Summary) {
        let behind = &mut self.behind;
        behind.commits += u64::from(segment.commits);
        behind.last_lost = segment.last_commit.map(place_of).or(behind.last_lost);
        behind.past_time |= segment.times.is_some();
        for mark in &segment.marks {
            if let (TargetKind::Name(wanted), MarkKind::RestorePoint(name)) = (&self.target.kind, &mark.kind)
                && name == wanted.as_str()
            {
                behind.named_again.push(Place { lsn: mark.lsn, xid: None, at: mark.at });
            }
        }
    }

    /// Counts commits behind what was fed of which only the number is known, with the last of them.
    pub fn count(&mut self, commits: u64, last: Option<End>, named_again: impl IntoIterator<Item = Place>) {
        self.behind.commits += commits;
        self.behind.last_lost = last.map(place_of).or(self.behind.last_lost);
        self.behind.named_again.extend(named_again);
    }

    /// Says that everything behind the stop was fed or passed over; only up to `until`, where there is more behind it.
    pub fn went_to_the_end(&mut self, until: Option<Lsn>) {
        (self.behind.is_counted, self.behind.counted_to) = (true, until);
    }

    /// Where the first records start of the segments that were left out and have to be looked at again by
    /// [`Resolver::look_back`]: transactions may have ended there at the time of the one at the stop.
    #[must_use]
    pub fn wants_back(&self) -> Vec<Lsn> {
        let Some(at) = self.stopped_at() else { return Vec::new() };
        let has = |(_, earliest, latest): &&(Lsn, Timestamp, Timestamp)| (*earliest..=*latest).contains(&at);
        self.passed.iter().filter(has).map(|(first, ..)| *first).collect()
    }

    /// Whether the transaction at the stop ended between these times, both included.
    #[must_use]
    pub fn stopped_between(&self, earliest: Timestamp, latest: Timestamp) -> bool {
        self.stopped_at().is_some_and(|at| (earliest..=latest).contains(&at))
    }

    /// Takes a record that was left out.
    pub fn look_back(&mut self, record: &Record) {
        if let Some(place) = ended_transaction(record)
            && place.at == self.stopped_at()
        {
            self.same_time.insert(place.lsn, place);
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

    /// Whether the server answers queries behind what was fed.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readable_from.is_some()
    }

    /// Whether the stop was found. What is fed behind it only tells what comes next.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether the server would end with an error where it stops: the data is not consistent there.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.stop.is_some() && self.consistent_at.is_none()
    }

    /// Whether everything is known about the stop and what comes next, but for what is counted.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        self.behind.first_lost.is_some() && (self.behind.past_time || stop.place.is_none())
    }

    /// Whether the records of this segment have to be fed one by one: they can be where recovery stops, or tell what
    /// comes behind the stop. The data has to be consistent before it.
    #[must_use]
    pub fn may_matter(&self, segment: &Summary) -> bool {
        if !self.is_readable() && self.may_become_readable(segment) {
            return true;
        }
        if self.has_stopped() {
            let has_time = |at| segment.times.is_some_and(|(earliest, latest)| (earliest..=latest).contains(&at));
            let is_first = self.behind.first_lost.is_none() && segment.commits > 0;
            return is_first || self.stopped_at().is_some_and(has_time);
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

    fn may_become_readable(&self, segment: &Summary) -> bool {
        let restarts = |(redo, standby): (Lsn, Standby)| segment.end > redo && standby.may_change(segment);
        self.standby.may_change(segment) || self.restarted.is_some_and(restarts)
    }

    fn stops_before(&self, record: &Record) -> bool {
        let inclusive = self.target.inclusive;
        match (&self.target.kind, outcome(record)) {
            (TargetKind::Lsn(lsn), _) => !inclusive && record.lsn >= *lsn,
            (TargetKind::Xid(xid), Some(outcome)) => !inclusive && is_end_of(outcome, *xid),
            (TargetKind::Time(time), Some(outcome)) => outcome.at > *time || (!inclusive && outcome.at == *time),
            _ => false,
        }
    }

    fn stops_after(&self, record: &Record) -> bool {
        match (&self.target.kind, &record.body) {
            (TargetKind::Lsn(lsn), _) => self.target.inclusive && record.lsn >= *lsn,
            (TargetKind::Name(wanted), Body::RestorePoint { name, .. }) => name == wanted.as_str(),
            (TargetKind::Xid(xid), _) => {
                self.target.inclusive && outcome(record).is_some_and(|outcome| is_end_of(outcome, *xid))
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
        if let Body::ParameterChange(change) = &record.body {
            self.require(change);
        }
        self.locks.feed(record);
        self.drops.feed(record);
        self.admit(record);
    }

    /// Whether anybody may connect from this record on (`CheckRecoveryConsistency`).
    fn admit(&mut self, record: &Record) {
        if self.readable_from.is_some() {
            return;
        }
        if let (None, Body::RunningTransactions(running)) = (self.oldest_at_start, &record.body) {
            self.oldest_at_start = Some(running.oldest_running);
        }
        self.standby.feed(&record.body);
        if let Some((redo, standby)) = &mut self.restarted
            && record.lsn >= *redo
        {
            standby.feed(&record.body);
        }
        let restarted = self.restarted.is_none_or(|(_, standby)| standby.is_ready());
        if self.consistent_at.is_some() && self.standby.is_ready() && restarted {
            self.readable_from = Some(record.lsn);
        }
    }

    fn require(&mut self, change: &ParameterChange) {
        let asked = Requirements::of(change);
        self.requires = Some(self.requires.map_or(asked, |before| before.and(asked)));
    }

    fn remember(&mut self, place: Place) {
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(place);
        self.last_ended = Some(place);
    }

    fn stop_at(&mut self, side: StopSide, record: &Record, place: Option<Place>) {
        let (name, at) = match &record.body {
            Body::RestorePoint { name, at } => (Some(name.clone()), Some(*at)),
            _ => (None, place.and_then(|place| place.at)),
        };
        let ending = outcome(record).filter(|_| side == StopSide::Before);
        let locked = locked(&self.locks, ending);
        let begun = match ending.filter(|_| matches!(record.body, Body::Commit(_))) {
            Some(outcome) => {
                let own = locked.iter().find(|locked| locked.xid == outcome.xid);
                (own.map(|locked| locked.from), self.drops.begun_by(outcome))
            }
            None => (None, None),
        };
        let is_readable = self.is_readable();
        let dropping = self.drops.under_way();
        self.stop = Some(Stop { side, lsn: record.lsn, place, at, name, is_readable, locked, dropping, begun });
        if let Some(at) = self.stopped_at() {
            let same = self.ended.iter().filter(|ended| ended.at == Some(at));
            self.same_time.extend(same.map(|ended| (ended.lsn, *ended)));
        }
    }

    /// When the transaction at the stop ended.
    fn stopped_at(&self) -> Option<Timestamp> {
        self.stop.as_ref()?.place?.at
    }

    /// Behind the stop: who else ended at the same time, who is the first to be lost, and how many are.
    fn look_beyond(&mut self, record: &Record, ended: Option<Place>) -> ControlFlow<()> {
        self.admit(record);
        let stopped_at = self.stopped_at();
        if let (TargetKind::Name(wanted), Body::RestorePoint { name, at }) = (&self.target.kind, &record.body)
            && name == wanted.as_str()
        {
            self.behind.named_again.push(Place { lsn: record.lsn, xid: None, at: Some(*at) });
        }
        if let Some(place) = ended {
            if stopped_at.is_some() && stopped_at == place.at {
                self.same_time.insert(place.lsn, place);
            } else {
                self.behind.past_time = true;
            }
            if matches!(record.body, Body::Commit(_)) {
                self.behind.first_lost.get_or_insert(place);
                self.behind.commits += 1;
                self.behind.last_lost = Some(place);
            }
        }
        if self.has_enough() || self.has_failed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The answer, when WAL has been fed up to the stop or to its end at `end`.
    ///
    /// # Errors
    /// When the server would not stop for this target, or not be consistent where it stops.
    pub fn finish(mut self, end: Lsn) -> Result<Resolved, Unreachable> {
        let stop = match self.stop.take() {
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
        if let Some(place) = stop.place {
            self.same_time.remove(&place.lsn);
        }
        let reached = self.path.timeline_at(stop.lsn).unwrap_or(self.path.last());
        let Behind { first_lost, commits, last_lost, named_again, is_counted, counted_to, .. } = self.behind;
        let counted = is_counted || stop.side == StopSide::EndOfWal;
        let path = path_until(self.path, self.backup_start, reached);
        let forks = path.iter().filter_map(|id| self.path.end_of(*id).flatten()).take(path.len().saturating_sub(1));
        Ok(Resolved {
            forks: forks.collect(),
            path,
            replay_end: self.replay_end,
            xid: stop.place.and_then(|place| place.xid),
            at: stop.at,
            consistent_at,
            last_kept: self.last_kept,
            first_lost,
            ambiguous: self.same_time.into_values().collect(),
            told: told(self.target, &stop),
            commits_lost: counted.then_some(commits),
            counted_to,
            last_lost: last_lost.filter(|_| counted),
            named_again,
            is_readable: stop.is_readable,
            readable_from: self.readable_from,
            requires: self.requires,
            before: choices(self.target, &stop),
            name: stop.name,
            locked: stop.locked,
            dropping: stop.dropping,
            ..Resolved::new(self.path.last(), stop.side, stop.lsn)
        })
    }

    fn stop_at_end(&self, end: Lsn) -> Result<Stop, Unreachable> {
        match (&self.target.kind, self.last_record) {
            (TargetKind::Latest, Some(lsn)) => Ok(Stop {
                side: StopSide::EndOfWal,
                lsn,
                place: None,
                at: None,
                name: None,
                is_readable: self.is_readable(),
                locked: locked(&self.locks, None),
                dropping: self.drops.under_way(),
                begun: (None, None),
            }),
            // Its WAL has everything but the backup's end.
            (TargetKind::Immediate, _) => {
                Err(Unreachable::BeforeConsistency { stop: end, at: None, consistent_at: self.backup_stop })
            }
            (_, last_record) => Err(Unreachable::NotReached { end, last: self.last_ended, last_record }),
        }
    }
}

/// What the server has to be told for `target`, where that is something else.
fn told(target: &Target, stop: &Stop) -> Option<Target> {
    match (&target.kind, stop.place.and_then(|place| place.xid)) {
        // Without a target the server would promote at the end of WAL, at a gap as well, and without a word. The last
        // record is known, so that it is named.
        (TargetKind::Latest, _) => Some(Target { kind: TargetKind::Lsn(stop.lsn), inclusive: true, ..target.clone() }),
        // The server compares with transactions only.
        (TargetKind::Xid(asked), Some(xid)) if *asked != xid => {
            Some(Target { kind: TargetKind::Xid(xid), ..target.clone() })
        }
        _ => None,
    }
}

/// The places at which “before this transaction” can stop, where it is not all the same; the one at the commit is
/// chosen.
fn choices(target: &Target, stop: &Stop) -> Vec<StopBefore> {
    let (first_lock, drop) = stop.begun;
    if target.inclusive || !target.has_sides() || (first_lock.is_none() && drop.is_none()) {
        return Vec::new();
    }
    let place = |what, lsn: Lsn| StopBefore {
        what,
        lsn,
        commits_lost: 0,
        is_readable: first_lock.is_none_or(|lock| lsn <= lock),
        saves: drop.is_none_or(|drop| lsn <= drop),
        chosen: what == BeforeWhat::Commit,
        target: Target { kind: TargetKind::Lsn(lsn), inclusive: false, ..target.clone() }.to_options(),
    };
    let first_lock = first_lock.map(|lsn| place(BeforeWhat::FirstLock, lsn));
    let drop = drop.map(|lsn| place(BeforeWhat::DatabaseDrop, lsn));
    let mut places: Vec<StopBefore> =
        first_lock.into_iter().chain(drop).chain([place(BeforeWhat::Commit, stop.lsn)]).collect();
    places.sort_by_key(|place| place.lsn);
    places
}

/// Who holds locks, by where the first one was taken. The parts of the transaction that ends at the stop are told.
fn locked(locks: &Locks, ending: Option<&Outcome>) -> Vec<Locked> {
    let mut holders: BTreeMap<Xid, Locked> = BTreeMap::new();
    for lock in locks.held() {
        let xid = ending.filter(|outcome| is_end_of(outcome, lock.xid)).map_or(lock.xid, |outcome| outcome.xid);
        let holder = holders.entry(xid).or_insert(Locked {
            xid,
            from: lock.from,
            relations: 0,
            prepared: locks.is_prepared(lock.xid),
        });
        holder.from = holder.from.min(lock.from);
        holder.relations += 1;
    }
    let mut holders: Vec<Locked> = holders.into_values().collect();
    holders.sort_by_key(|holder| holder.from);
    holders
}

fn outcome(record: &Record) -> Option<&Outcome> {
    match &record.body {
        Body::Commit(outcome) | Body::Abort(outcome) => Some(outcome),
        _ => None,
    }
}

/// Whether this is the end of a transaction, or of the one that it is a part of.
fn is_end_of(outcome: &Outcome, xid: Xid) -> bool {
    outcome.xid == xid || outcome.subxacts.contains(&xid)
}

fn ended_transaction(record: &Record) -> Option<Place> {
    outcome(record).map(|outcome| Place { lsn: record.lsn, xid: Some(outcome.xid), at: Some(outcome.at) })
}

fn place_of(end: End) -> Place {
    Place { lsn: end.lsn, xid: Some(end.xid), at: Some(end.at) }
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
