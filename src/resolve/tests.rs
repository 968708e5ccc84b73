//! The resolver against made-up histories.

use proptest::prelude::*;

use super::*;
use crate::core::{RestorePointName, TargetKind, TimelineChoice, TimelinePath};
use crate::wal::{Body, Lock, Outcome, ParameterChange, Record, RelFileLocator, RowChange, Rows, RunningTransactions};

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
        locks: false,
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

/// What is said where everything is read.
fn resolve_all(target: &Target, records: &[Record]) -> Resolved {
    let path = TimelinePath::new(&[], TimelineId(1));
    let mut resolver = Resolver::new(target, &path, BACKUP_START, None);
    for record in records {
        let _ = resolver.feed(record);
    }
    resolver.went_to_the_end(None);
    resolver.finish(records.last().map_or(BACKUP_START, |record| record.end_lsn)).unwrap()
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
fn a_target_that_is_not_there_is_not_reached() {
    let answer = resolve(&target(TargetKind::Xid(Xid(99)), true), &history());
    let Err(Unreachable::NotReached { last, last_record, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((last.and_then(|place| place.xid), last_record), (Some(Xid(15)), Some(Lsn(0x1B0))));
    let late = resolve(&target(TargetKind::Time(second(40)), true), &history());
    assert!(matches!(late, Err(Unreachable::NotReached { .. })), "no record is later: {late:?}");
}

#[test]
fn the_server_is_told_the_transaction_of_a_subtransaction_and_the_end_of_wal_as_a_record() {
    for inclusive in [true, false] {
        let asked = target(TargetKind::Xid(Xid(514)), inclusive);
        let resolved = resolve(&asked, &history()).unwrap();
        let of_the_whole = resolve(&target(TargetKind::Xid(Xid(14)), inclusive), &history()).unwrap();
        assert_eq!(resolved.told, Some(target(TargetKind::Xid(Xid(14)), inclusive)));
        assert_eq!(of_the_whole.told, None);
        assert_eq!(resolved, Resolved { told: resolved.told.clone(), ..of_the_whole });
    }
    let latest = resolve(&target(TargetKind::Latest, true), &history()).unwrap();
    assert_eq!(latest.told, Some(target(TargetKind::Lsn(Lsn(0x1B0)), true)));
}

#[test]
fn what_is_lost_is_counted_and_restore_points_of_the_same_name_are_told() {
    let name = RestorePointName::try_from("deploy".to_owned()).unwrap();
    let resolved = resolve_all(&target(TargetKind::Name(name), true), &history());
    assert_eq!((resolved.commits_lost, resolved.last_lost.and_then(|last| last.xid)), (Some(2), Some(Xid(15))));
    let again: Vec<_> = resolved.named_again.iter().map(|place| (place.lsn, place.at)).collect();
    assert_eq!(again, [(Lsn(0x190), Some(second(35)))]);
    let before = resolve_all(&target(TargetKind::Xid(Xid(15)), false), &history());
    assert_eq!((before.commits_lost, before.last_lost), (Some(1), before.first_lost));
    let last = resolve_all(&target(TargetKind::Xid(Xid(15)), true), &history());
    assert_eq!((last.commits_lost, last.last_lost), (Some(0), None));
}

#[test]
fn all_that_share_the_time_are_told_wherever_they_are() {
    let mut records = history();
    records.insert(8, commit(0x188, 30, 20));
    records.push(commit(0x1C0, 31, 20));
    let resolved = resolve_all(&target(TargetKind::Xid(Xid(12)), true), &records);
    let others: Vec<_> = resolved.ambiguous.iter().filter_map(|place| place.xid).map(|xid| xid.0).collect();
    assert_eq!(others, [11, 30, 31]);
}

fn running(lsn: u64, overflowed: bool, oldest: u32, next: u32) -> Record {
    let running = RunningTransactions {
        transactions: 1,
        subtransactions: 0,
        overflowed,
        next_xid: Xid(next),
        oldest_running: Xid(oldest),
        xids: vec![Xid(oldest)],
    };
    record(lsn, Body::RunningTransactions(running))
}

#[test]
fn nobody_can_connect_before_all_that_runs_is_known() {
    let mut records = history();
    records[0] = running(0x100, true, 10, 600);
    records.insert(5, running(0x158, true, 601, 700));
    let at = |lsn, inclusive| {
        let resolved = resolve_all(&target(TargetKind::Lsn(Lsn(lsn)), inclusive), &records);
        (resolved.is_readable, resolved.readable_from)
    };
    assert_eq!(at(0x150, true), (false, Some(Lsn(0x158))));
    assert_eq!(at(0x158, false), (false, Some(Lsn(0x158))));
    assert_eq!(at(0x158, true), (true, Some(Lsn(0x158))));
    // From a complete list on everybody may, once the data is consistent.
    records[0] = running(0x100, false, 10, 600);
    let resolved = resolve_all(&target(TargetKind::Immediate, true), &records);
    assert_eq!((resolved.is_readable, resolved.readable_from), (true, Some(Lsn(0x120))));
}

#[test]
fn a_server_that_starts_again_on_the_way_has_to_learn_who_runs() {
    let mut records = history();
    records[0] = running(0x100, false, 10, 600);
    records.insert(5, running(0x158, true, 10, 700));
    let (target, path) = (target(TargetKind::Xid(Xid(14)), true), TimelinePath::new(&[], TimelineId(1)));
    for (redo, readable) in [(0x100, true), (0x150, false), (0x160, false)] {
        let mut resolver = Resolver::new(&target, &path, BACKUP_START, None).restarting_at(Lsn(redo));
        for record in &records {
            let _ = resolver.feed(record);
        }
        assert_eq!(resolver.finish(Lsn(0x1C0)).unwrap().is_readable, readable, "{redo:X}");
    }
}

/// A transaction that locks, another one that commits, if `between`, and its own commit; then one that goes on.
fn locking(between: bool) -> Vec<Record> {
    let lock = |lsn, xid: u32, relation| Record {
        xid: Some(Xid(xid)),
        ..record(lsn, Body::Locks(vec![Lock { xid: Xid(xid), database: 5, relation }]))
    };
    let mut records = vec![running(0x100, false, 10, 20), record(0x110, Body::BackupEnd { start: BACKUP_START })];
    records.extend([lock(0x120, 40, 1), lock(0x130, 530, 2), lock(0x140, 530, 3)]);
    records.extend(between.then(|| commit(0x150, 25, 20)));
    records.push(record(0x160, Body::Commit(Outcome { locks: true, ..outcome_of(30, 30) })));
    records.push(commit(0x170, 41, 40));
    records
}

#[test]
fn what_is_locked_at_the_stop_is_told_and_where_else_one_could_stop() {
    for between in [false, true] {
        let resolved = resolve_all(&target(TargetKind::Xid(Xid(30)), false), &locking(between));
        let locked: Vec<_> = resolved.locked.iter().map(|l| (l.xid.0, l.from.0, l.relations)).collect();
        assert_eq!(locked, [(40, 0x120, 1), (30, 0x130, 2)], "the part's locks are the transaction's");
        let places: Vec<_> = resolved.before.iter().map(|p| (p.what, p.lsn.0, p.is_readable, p.saves)).collect();
        let expected = [(BeforeWhat::FirstLock, 0x130, true, true), (BeforeWhat::Commit, 0x160, false, true)];
        assert_eq!(places, expected);
        let inclusive = resolve_all(&target(TargetKind::Xid(Xid(30)), true), &locking(between));
        assert_eq!((inclusive.locked.len(), inclusive.before), (1, vec![]));
    }
}

#[test]
fn a_database_is_saved_before_it_is_marked() {
    let global = |relation| RelFileLocator { tablespace: 1664, database: 0, relation };
    let of = |xid: u32, lsn, body| Record { xid: Some(Xid(xid)), ..record(lsn, body) };
    let rows = Body::Rows(Rows { relation: global(1262), change: RowChange::Delete, rows: 1 });
    let mut records = vec![running(0x100, false, 10, 20), record(0x110, Body::BackupEnd { start: BACKUP_START })];
    records.push(record(0x120, Body::HeapInplace(global(1262))));
    records.push(of(30, 0x130, rows));
    records.push(of(30, 0x140, Body::DatabaseDrop { database: 16384 }));
    records.push(of(30, 0x150, Body::Commit(outcome_of(30, 30))));
    let resolved = resolve_all(&target(TargetKind::Xid(Xid(30)), false), &records);
    let places: Vec<_> = resolved.before.iter().map(|p| (p.what, p.lsn.0, p.saves)).collect();
    assert_eq!(places, [(BeforeWhat::DatabaseDrop, 0x120, true), (BeforeWhat::Commit, 0x150, false)]);
    assert_eq!(resolved.before[0].target, ["--lsn", "0/120", "--exclusive", "--timeline", "current"]);
    assert_eq!(resolved.dropping, [Dropping { xid: Xid(30), from: Lsn(0x120) }]);
    let saved = resolve_all(&target(TargetKind::Lsn(Lsn(0x120)), false), &records);
    assert_eq!((saved.dropping, saved.before), (vec![], vec![]));
    // Releases that do not mark it.
    records.remove(2);
    let resolved = resolve_all(&target(TargetKind::Lsn(Lsn(0x150)), false), &records);
    assert_eq!(resolved.before[0].lsn, Lsn(0x140));
}

#[test]
fn settings_are_asked_for_up_to_the_stop() {
    let change = |lsn, connections, workers| {
        let change = ParameterChange {
            max_connections: connections,
            max_worker_processes: workers,
            max_wal_senders: 10,
            max_prepared_transactions: 0,
            max_locks_per_transaction: 64,
            wal_level: 1,
            wal_log_hints: false,
            track_commit_timestamp: false,
        };
        record(lsn, Body::ParameterChange(change))
    };
    let mut records = history();
    records.insert(5, change(0x15C, 50, 9));
    records.insert(5, change(0x158, 200, 8));
    records.insert(9, change(0x178, 900, 8));
    let asked = |xid| {
        let resolved = resolve_all(&target(TargetKind::Xid(Xid(xid)), true), &records);
        resolved.requires.map(|least| (least.max_connections, least.max_worker_processes))
    };
    assert_eq!((asked(12), asked(13), asked(14)), (None, Some((200, 9)), Some((900, 9))));
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
