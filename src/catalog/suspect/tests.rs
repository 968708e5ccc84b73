//! Suspects are the same however WAL is cut into segments, and limits only ever make counts too low.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::{PgMajor, TimelineId};
use crate::wal::rmgr::{Body, Lock, Outcome, RowChange, Rows, RunningTransactions};
use crate::wal::summary::{Summarizer, Tail};
use crate::wal::{Record, summary};

const ROWS: u64 = 10;
/// What an index keeps whole, see `source::index`.
const FLOOR: u64 = ROWS / 2;
const TIMELINE: TimelineId = TimelineId(1);

fn relation(number: u32) -> RelFileLocator {
    RelFileLocator { tablespace: 1663, database: if number == PG_DATABASE { 0 } else { 5 }, relation: number }
}

const PG_DATABASE: u32 = 1262;

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_seconds(second).unwrap()
}

/// Records, a hundred bytes apart.
#[derive(Default)]
struct Wal(Vec<Record>);

impl Wal {
    fn add(&mut self, xid: Option<u32>, body: Body) {
        let lsn = Lsn(0x100_0000 + self.0.len() as u64 * 100);
        let xid = xid.map(Xid);
        let previous = self.0.last().map(|last| last.lsn);
        self.0.push(Record { lsn, end_lsn: lsn.plus(100), timeline: TIMELINE, previous, xid, rmgr: 0, info: 0, body });
    }

    fn rows(&mut self, xid: u32, number: u32, change: RowChange, rows: u16) {
        for _ in 0..rows {
            self.add(Some(xid), Body::Rows(Rows { relation: relation(number), change, rows: 1 }));
        }
    }

    fn lock(&mut self, xid: u32, oid: u32) {
        self.add(Some(xid), Body::Locks(vec![Lock { xid: Xid(xid), database: 5, relation: oid }]));
    }

    fn create(&mut self, xid: u32, number: u32) {
        self.add(Some(xid), Body::FileCreate(relation(number)));
    }

    fn pages(&mut self, xid: u32, number: u32) {
        self.add(Some(xid), Body::PageImages { relation: relation(number), pages: 1 });
    }

    fn outcome(&self, xid: u32, subxacts: &[u32], dropped: &[u32], oids: &[u32]) -> Outcome {
        Outcome {
            at: at(self.0.len() as i64),
            xid: Xid(xid),
            prepared: false,
            subxacts: subxacts.iter().copied().map(Xid).collect(),
            dropped: dropped.iter().copied().map(relation).collect(),
            dropped_statistics: oids.to_vec(),
            locks: false,
            origin: None,
        }
    }

    fn commit(&mut self, xid: u32, subxacts: &[u32], dropped: &[u32], oids: &[u32]) {
        self.add(Some(xid), Body::Commit(self.outcome(xid, subxacts, dropped, oids)));
    }

    fn abort(&mut self, xid: u32, subxacts: &[u32]) {
        self.add(Some(xid), Body::Abort(self.outcome(xid, subxacts, &[], &[])));
    }
}

fn summarize(records: &[Record], floor: u64) -> Summary {
    let mut summarizer = Summarizer::new(7, PgMajor(15), Lsn(0), floor);
    records.iter().for_each(|record| summarizer.feed(record));
    summarizer.finish(Tail::Full)
}

/// The suspects of WAL that is cut in front of these records.
fn suspects(records: &[Record], cuts: &[usize]) -> Vec<Suspect> {
    let mut borders: Vec<usize> = cuts.iter().map(|cut| cut % (records.len() + 1)).collect();
    borders.extend([0, records.len()]);
    borders.sort_unstable();
    let mut stitch = Stitch::new(ROWS);
    let mut found = Vec::new();
    for pair in borders.windows(2) {
        let segment = &records[pair[0]..pair[1]];
        let mut ask = |xids: &[Xid]| fates(segment, xids);
        let ended = stitch.feed(&summarize(segment, FLOOR), &mut ask);
        found.extend(ended.iter().flat_map(|ended| suspects_of(ended, TIMELINE, ROWS)));
    }
    found
}

/// How transactions ended in a segment, as reading it again tells.
fn fates(segment: &[Record], xids: &[Xid]) -> BTreeMap<Xid, Fate> {
    let mut fates = BTreeMap::new();
    let of = |outcome: &Outcome| std::iter::once(outcome.xid).chain(outcome.subxacts.clone()).collect::<Vec<_>>();
    for record in segment {
        if let Body::Abort(outcome) = &record.body {
            fates.extend(of(outcome).into_iter().filter(|xid| xids.contains(xid)).map(|xid| (xid, Fate::RolledBack)));
        }
    }
    for ended in summarize(segment, 0).notable {
        let asked = std::iter::once(&ended.xid).chain(&ended.subxacts).find(|xid| xids.contains(xid)).copied();
        fates.extend(asked.map(|xid| (xid, Fate::Committed(Box::new(ended)))));
    }
    fates
}

/// What one transaction does. Numbers of relations and subtransactions are its own.
#[derive(Debug, Clone)]
enum Act {
    Delete(u16),
    Update(u16),
    Insert(u16),
    /// In a subtransaction that is kept, or rolled back.
    InSubtransaction(Box<Act>, bool),
    DropTable,
    DropIndex,
    Truncate,
    Reindex,
    Rewrite,
    VacuumFull,
    MakeTable,
    DropDatabase,
}

fn act() -> impl Strategy<Value = Act> {
    let simple = prop_oneof![
        (1u16..12).prop_map(Act::Delete),
        (1u16..12).prop_map(Act::Update),
        (1u16..12).prop_map(Act::Insert),
        Just(Act::DropTable),
        Just(Act::DropIndex),
        Just(Act::Truncate),
        Just(Act::Reindex),
        Just(Act::Rewrite),
        Just(Act::VacuumFull),
        Just(Act::MakeTable),
    ];
    (simple, 0u8..4).prop_map(|(act, sub)| match sub {
        0 => Act::InSubtransaction(Box::new(act), true),
        1 => Act::InSubtransaction(Box::new(act), false),
        _ => act,
    })
}

/// What a transaction comes to at its end.
#[derive(Debug, Default)]
struct End {
    subxacts: Vec<u32>,
    dropped: Vec<u32>,
    oids: Vec<u32>,
}

impl Wal {
    /// Writes what an act does; `next` gives numbers that nobody has.
    fn act(&mut self, xid: u32, act: &Act, end: &mut End, next: &mut u32) {
        let mut number = || {
            *next += 1;
            *next
        };
        match act {
            Act::Delete(rows) => self.rows(xid, number(), RowChange::Delete, *rows),
            Act::Update(rows) => self.rows(xid, number(), RowChange::Update, *rows),
            Act::Insert(rows) => self.rows(xid, number(), RowChange::Insert, *rows),
            Act::InSubtransaction(act, kept) => {
                let sub = number();
                let mut own = End::default();
                self.act(sub, act, &mut own, next);
                if *kept {
                    end.subxacts.push(sub);
                    end.subxacts.extend(own.subxacts);
                    end.dropped.extend(own.dropped);
                    end.oids.extend(own.oids);
                } else {
                    self.abort(sub, &own.subxacts);
                }
            }
            Act::DropTable => {
                let table = number();
                self.lock(xid, table);
                self.rows(xid, 1247, RowChange::Delete, 2);
                self.rows(xid, 1259, RowChange::Delete, 1);
                end.dropped.push(table);
                end.oids.push(table);
            }
            Act::DropIndex => {
                let index = number();
                self.lock(xid, index);
                self.rows(xid, 2610, RowChange::Delete, 1);
                self.rows(xid, 1259, RowChange::Delete, 1);
                end.dropped.push(index);
                end.oids.push(index);
            }
            Act::Truncate => {
                let (old, new) = (number(), number());
                self.lock(xid, old);
                self.create(xid, new);
                self.rows(xid, 1259, RowChange::Update, 1);
                end.dropped.push(old);
            }
            Act::Reindex => {
                let (old, new) = (number(), number());
                self.lock(xid, old);
                self.create(xid, new);
                self.rows(xid, 1259, RowChange::Update, 1);
                self.pages(xid, new);
                end.dropped.push(old);
            }
            Act::Rewrite | Act::VacuumFull => {
                let (old, new) = (number(), number());
                self.lock(xid, old);
                self.create(xid, new);
                self.lock(xid, new);
                self.rows(xid, 1259, RowChange::Insert, 1);
                match act {
                    Act::Rewrite => self.rows(xid, new, RowChange::Insert, 3),
                    _ => self.pages(xid, new),
                }
                self.rows(xid, 1259, RowChange::Update, 2);
                self.rows(xid, 1259, RowChange::Delete, 1);
                end.dropped.push(old);
                end.oids.push(new);
            }
            Act::MakeTable => {
                let table = number();
                self.lock(xid, table);
                self.create(xid, table);
                self.rows(xid, 1259, RowChange::Insert, 1);
                self.rows(xid, table, RowChange::Delete, 12);
            }
            Act::DropDatabase => {
                self.add(None, Body::HeapInplace(relation(PG_DATABASE)));
                self.rows(xid, PG_DATABASE, RowChange::Delete, 1);
                let database = number();
                self.add(Some(xid), Body::DatabaseDrop { database });
            }
        }
    }
}

/// Transactions of several acts, two of them at a time, each kept or rolled back.
fn wal() -> impl Strategy<Value = Vec<Record>> {
    // A database cannot be dropped beside anything else.
    let acts = || prop_oneof![9 => prop::collection::vec(act(), 0..4), 1 => Just(vec![Act::DropDatabase])];
    let transaction = || (acts(), any::<bool>());
    prop::collection::vec((transaction(), transaction(), any::<bool>()), 1..6).prop_map(|pairs| {
        let (mut wal, mut next) = (Wal::default(), 20_000);
        for (first, second, tells) in pairs {
            let xids = [next + 1, next + 2];
            next += 2;
            let mut ends = [End::default(), End::default()];
            let both = [&first, &second];
            for turn in 0..first.0.len().max(second.0.len()) {
                for which in 0..2 {
                    if let Some(act) = both[which].0.get(turn) {
                        wal.act(xids[which], act, &mut ends[which], &mut next);
                    }
                }
                if tells {
                    let running = RunningTransactions {
                        transactions: 2,
                        subtransactions: 0,
                        overflowed: false,
                        next_xid: Xid(next + 1),
                        oldest_running: Xid(xids[0]),
                        xids: xids.map(Xid).to_vec(),
                    };
                    wal.add(None, Body::RunningTransactions(running));
                }
            }
            for which in [1, 0] {
                let End { subxacts, dropped, oids } = &ends[which];
                match both[which].1 {
                    true => wal.commit(xids[which], subxacts, dropped, oids),
                    false => wal.abort(xids[which], subxacts),
                }
            }
        }
        wal.0
    })
}

proptest! {
    #[test]
    fn it_does_not_matter_how_wal_is_cut_into_segments(records in wal(), cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        prop_assert_eq!(suspects(&records, &cuts), suspects(&records, &[]));
    }

    #[test]
    fn what_was_rolled_back_is_no_suspect(records in wal()) {
        let committed: Vec<Xid> = records.iter().filter_map(|record| match &record.body {
            Body::Commit(outcome) => Some(outcome.xid),
            _ => None,
        }).collect();
        prop_assert!(suspects(&records, &[]).iter().all(|suspect| committed.contains(&suspect.xid)));
    }
}

#[test]
fn every_cut_through_every_act_gives_the_same() {
    let acts = [
        Act::Delete(11),
        Act::DropTable,
        Act::DropIndex,
        Act::Truncate,
        Act::Reindex,
        Act::Rewrite,
        Act::VacuumFull,
        Act::MakeTable,
        Act::DropDatabase,
        Act::InSubtransaction(Box::new(Act::Truncate), true),
    ];
    for act in acts {
        let (mut wal, mut end, mut next) = (Wal::default(), End::default(), 20_001);
        wal.act(20_001, &Act::MakeTable, &mut end, &mut next);
        wal.act(20_001, &act, &mut end, &mut next);
        wal.commit(20_001, &end.subxacts, &end.dropped, &end.oids);
        let whole = suspects(&wal.0, &[]);
        let kinds: Vec<SuspectKind> = whole.iter().map(|suspect| suspect.kind).collect();
        let expected = match &act {
            Act::Delete(_) => vec![SuspectKind::Delete],
            Act::DropTable => vec![SuspectKind::Drop],
            Act::Truncate | Act::InSubtransaction(..) => vec![SuspectKind::Truncate],
            Act::Rewrite => vec![SuspectKind::Rewrite],
            Act::DropDatabase => vec![SuspectKind::DropDatabase],
            _ => vec![],
        };
        assert_eq!(kinds, expected, "{act:?}");
        for cut in 0..=wal.0.len() {
            assert_eq!(suspects(&wal.0, &[cut]), whole, "{act:?} cut at {cut}");
        }
    }
}

#[test]
fn a_dropped_database_is_saved_before_the_mark_that_makes_it_invalid() {
    let (mut wal, mut end, mut next) = (Wal::default(), End::default(), 20_001);
    wal.add(None, Body::HeapInplace(relation(PG_DATABASE)));
    wal.act(20_001, &Act::DropDatabase, &mut end, &mut next);
    wal.commit(20_001, &[], &[], &[]);
    let mark = wal.0[1].lsn.to_string();
    assert_eq!(suspects(&wal.0, &[])[0].stop_before, ["--lsn", &mark, "--exclusive", "--timeline", "1"]);
    // A database that moves loses its files in its old tablespace, and keeps its row.
    let mut moved = Wal::default();
    moved.rows(20_001, PG_DATABASE, RowChange::Update, 1);
    moved.add(Some(20_001), Body::DatabaseDrop { database: 16_384 });
    moved.commit(20_001, &[], &[], &[]);
    assert_eq!(suspects(&moved.0, &[]), []);
}

#[test]
fn rows_of_more_relations_than_are_told_apart_count() {
    let mut wal = Wal::default();
    for number in 0..300 {
        wal.rows(20_001, 30_000 + number, RowChange::Delete, 2);
        wal.rows(20_001, 30_000 + number, RowChange::Update, 1);
    }
    wal.commit(20_001, &[], &[], &[]);
    for cuts in [&[][..], &[250], &[100, 500, 700]] {
        let found = suspects(&wal.0, cuts);
        let counts: Vec<(SuspectKind, u64)> = found.iter().map(|suspect| (suspect.kind, suspect.rows)).collect();
        assert_eq!(counts, [(SuspectKind::Delete, 600), (SuspectKind::Update, 300)], "{cuts:?}");
        assert!(found[0].note.as_ref().unwrap().contains("more relations"), "{found:?}");
    }
}

#[test]
fn what_cannot_be_followed_is_said_to_be_left_out() {
    let mut summarizer = Summarizer::new(7, PgMajor(15), Lsn(0), FLOOR);
    let mut wal = Wal::default();
    wal.rows(1, 20_000, RowChange::Delete, 1);
    for xid in 3..3 + (1 << 17) {
        summarizer.feed(&Record { xid: Some(Xid(xid)), ..wal.0[0].clone() });
    }
    assert!(!summarizer_of(&mut Wal::default(), 4096).truncated);
    assert!(summarizer_of(&mut Wal::default(), 4097).truncated, "only those with the most rows are kept");
    assert!(summarizer.finish(Tail::Full).truncated);
    // The one with the most rows is among those that are kept.
    let mut wal = Wal::default();
    wal.rows(9_999, 20_000, RowChange::Delete, 50);
    let kept = summarizer_of(&mut wal, 5000);
    assert_eq!((kept.open.len(), kept.open[0].0), (4096, Xid(9_999)));
}

/// A summary of so many transactions that have not ended, behind what is there already.
fn summarizer_of(wal: &mut Wal, transactions: u32) -> summary::Summary {
    for xid in 0..transactions {
        wal.rows(100_000 + xid, 20_000, RowChange::Delete, 1);
    }
    summarize(&wal.0, FLOOR)
}

/// What is said where a transaction did more than is told apart.
mod beyond {
    use super::*;
    use crate::wal::summary::{RelationWork, Work};

    fn relation(number: u32) -> RelFileLocator {
        RelFileLocator { tablespace: 1663, database: 5, relation: number }
    }

    fn ended(dropped: Vec<RelFileLocator>, work: Work) -> Ended {
        let at = Timestamp::from_unix_seconds(1_700_000_000).unwrap();
        let (lsn, end_lsn) = (Lsn(0x20_0028), Lsn(0x20_0068));
        Ended { lsn, end_lsn, xid: Xid(10), at, subxacts: vec![Xid(11)], dropped, dropped_oids: Vec::new(), work }
    }

    fn deleted(rows: u64) -> Work {
        Work {
            relations: vec![RelationWork { deleted: rows, ..RelationWork::on(relation(20_000)) }],
            ..Work::default()
        }
    }

    fn summary() -> Summary {
        Summarizer::new(1, PgMajor(15), Lsn::INVALID, 50).finish(Tail::Full)
    }

    #[test]
    fn where_more_files_were_made_than_are_told_apart_that_is_said() {
        for (relations, said) in [(200, false), (300, true)] {
            let made = |number| RelationWork { created: true, ..RelationWork::on(relation(number)) };
            let (mut work, mut more) = (Work::default(), Work::default());
            more.relations = (30_000..30_000 + relations).map(made).collect();
            work.add(more);
            // None instead of the last of them.
            let dropped = (20_000..20_000 + relations + 1).map(relation).collect();
            let suspects = suspects_of(&ended(dropped, work), TimelineId(1), 1000);
            let notes: Vec<_> = suspects.iter().map(|suspect| (suspect.kind, suspect.note.is_some())).collect();
            assert_eq!(notes, [(SuspectKind::Drop, said)], "{relations}");
        }
    }

    #[test]
    fn where_rows_of_subtransactions_are_not_known_that_is_said() {
        for (truncated, newest, said) in [(true, 10, true), (true, 9, false), (false, 10, false)] {
            let mut stitch = Stitch::new(1000);
            let before = Summary { truncated, open: vec![(Xid(newest), deleted(600))], ..summary() };
            assert_eq!(stitch.feed(&before, &mut |_| BTreeMap::new()), []);
            let last = Summary { notable: vec![ended(Vec::new(), deleted(1000))], ..summary() };
            let whole = stitch.feed(&last, &mut |_| BTreeMap::new());
            let suspects: Vec<_> = whole.iter().flat_map(|ended| suspects_of(ended, TimelineId(1), 1000)).collect();
            let notes: Vec<_> = suspects.iter().map(|suspect| suspect.note.is_some()).collect();
            assert_eq!(notes, [said], "{truncated} {newest}");
        }
    }
}
