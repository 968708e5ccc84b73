//! What the decoder makes of WAL that is sound, cut off, damaged or none at all.

use std::collections::BTreeMap;

use super::*;
use crate::core::{PgMajor, TimelineId, Xid};
use crate::wal::page::BadPage;
use crate::wal::record::Header;
use crate::wal::rmgr::{Body, Outcome, RelFileLocator, RowChange, Rows};
use crate::wal::run::ManyRows;
use crate::wal::summary::{Summarizer, Tail};
use crate::wal::writer::{SYSTEM, Writer, main_data, outcome, with_blocks};
use proptest::prelude::*;

const SEGMENT: u64 = 1 << 20;

/// Where the tests' WAL starts: two pages before the end of a segment.
const START: Lsn = Lsn(6 * SEGMENT - 2 * PAGE_BYTES);

fn size() -> SegmentSize {
    SegmentSize::new(SEGMENT as u32).unwrap()
}

/// Feeds `bytes` in pieces of `piece` bytes and gives the records, and the end.
fn read(mut decoder: Decoder, bytes: &[u8], piece: usize) -> (Vec<Record>, EndOfWal) {
    let mut records = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.feed(piece);
        while let Decoded::Record(record) = decoder.poll() {
            records.push(record);
        }
    }
    (records, decoder.finish())
}

/// The same by reading in place, up to `most` records at a time.
fn read_in_place(mut decoder: Decoder, bytes: &[u8], piece: usize, most: usize) -> (Vec<Record>, EndOfWal) {
    let mut records = Vec::new();
    for mut piece in bytes.chunks(piece.max(1)) {
        loop {
            let mut left = most;
            let reached = decoder.read(piece, &mut |record| {
                records.push(record.clone());
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match reached {
                Reached::Enough => piece = &[],
                Reached::Hungry | Reached::End(_) => break,
                Reached::Resumed(gap) => panic!("{gap}"),
            }
        }
    }
    (records, decoder.finish())
}

/// What there is, over all that cannot be read.
fn read_through(mut decoder: Decoder, bytes: &[u8], piece: usize) -> (Vec<Record>, Vec<Gap>, EndOfWal) {
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let reached = decoder.read_through(piece, &mut |piece| {
            match piece {
                Piece::Record(record) => records.push(record.clone()),
                Piece::Gap(gap) => gaps.push(gap),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(reached, ControlFlow::Continue(()));
    }
    (records, gaps, decoder.finish())
}

/// What records come to, whether they come together or by themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct CameTo {
    first: Option<(Lsn, Option<Lsn>)>,
    last: Option<Lsn>,
    end: Option<Lsn>,
    records: u64,
    rows: BTreeMap<(Option<Xid>, RelFileLocator, RowChange), u64>,
    others: Vec<(Lsn, Body)>,
    gaps: Vec<Gap>,
}

impl CameTo {
    /// Of what is looked through.
    fn together(mut decoder: Decoder, bytes: &[u8], piece: usize) -> (CameTo, EndOfWal) {
        let mut together = CameTo::default();
        for piece in bytes.chunks(piece) {
            assert_eq!(decoder.look_through(piece, &mut together), ControlFlow::Continue(()));
        }
        (together, decoder.finish())
    }

    /// Of what is read through.
    fn singly((records, gaps, end): (Vec<Record>, Vec<Gap>, EndOfWal)) -> (CameTo, EndOfWal) {
        let mut singly = CameTo { gaps, ..CameTo::default() };
        records.iter().for_each(|record| assert!(singly.record(record).is_continue()));
        (singly, end)
    }
}

impl Look for CameTo {
    fn run(&mut self, run: &Run) -> ControlFlow<()> {
        assert!(self.end.is_none_or(|end| end <= run.first) && run.first <= run.last && run.last < run.end);
        self.first.get_or_insert((run.first, run.before_first));
        (self.last, self.end) = (Some(run.last), Some(run.end));
        self.records += run.records;
        if let Some(ManyRows { xid, relation, change, rows }) = run.rows {
            *self.rows.entry((xid, relation, change)).or_default() += rows;
        }
        ControlFlow::Continue(())
    }

    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>> {
        let PlainCommit { lsn, before, end, xid, at } = *commit;
        // Some are wanted as records.
        if lsn.0.is_multiple_of(3) {
            return None;
        }
        assert!(self.end.is_none_or(|end| end <= lsn) && lsn < end);
        self.first.get_or_insert((lsn, before));
        (self.last, self.end) = (Some(lsn), Some(end));
        self.records += 1;
        self.others.push((lsn, Body::Commit(Outcome::plain(at, xid))));
        Some(ControlFlow::Continue(()))
    }

    fn record(&mut self, record: &Record) -> ControlFlow<()> {
        self.first.get_or_insert((record.lsn, record.previous));
        (self.last, self.end) = (Some(record.lsn), Some(record.end_lsn));
        self.records += 1;
        match &record.body {
            Body::Other => {}
            Body::Rows(Rows { relation, change, rows }) => {
                *self.rows.entry((record.xid, *relation, *change)).or_default() += u64::from(*rows);
            }
            body => self.others.push((record.lsn, body.clone())),
        }
        ControlFlow::Continue(())
    }

    fn gap(&mut self, gap: Gap) -> ControlFlow<()> {
        self.gaps.push(gap);
        ControlFlow::Continue(())
    }
}

/// The summary of what is looked through.
struct Summarized(Summarizer);

impl Look for Summarized {
    fn run(&mut self, run: &Run) -> ControlFlow<()> {
        self.0.feed_run(run);
        ControlFlow::Continue(())
    }

    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>> {
        self.0.feed_commit(commit).then_some(ControlFlow::Continue(()))
    }

    fn record(&mut self, record: &Record) -> ControlFlow<()> {
        self.0.feed(record);
        ControlFlow::Continue(())
    }

    fn gap(&mut self, gap: Gap) -> ControlFlow<()> {
        panic!("{gap}");
    }
}

/// Some records of all sizes, over several pages and into the next segment.
fn some_wal(major: u16) -> Writer {
    let mut wal = Writer::new(major, START);
    for i in 0..40u32 {
        wal.record(10, 0x10, 700 + i, &with_blocks(1, 10 * i as u16, &[0; 8]));
        wal.record(1, 0x80, 700 + i, &with_blocks(0, 0, &main_data_of(i)));
        wal.record(11, 0, 0, &with_blocks(3, 500 + i as u16, &[1; 4]));
    }
    wal
}

fn main_data_of(i: u32) -> Vec<u8> {
    outcome(i.into(), &(0..i * 5).collect::<Vec<_>>())
}

fn places(records: &[Record]) -> Vec<(Lsn, Lsn)> {
    records.iter().map(|record| (record.lsn, record.end_lsn)).collect()
}

#[test]
fn every_record_comes_out_as_it_was_written() {
    for major in 13..=18 {
        let wal = some_wal(major);
        assert!(wal.position() > Lsn(6 * SEGMENT + PAGE_BYTES), "it should go into the next segment");
        let (records, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192);
        assert_eq!(places(&records), wal.records);
        assert_eq!(end, EndOfWal { at: wal.position(), reason: EndReason::NoMoreBytes });
        for (i, three) in records.chunks(3).enumerate() {
            let xid = Xid(700 + i as u32);
            assert_eq!(three[0].xid, Some(xid));
            assert!(matches!(three[0].body, Body::Rows(Rows { change: RowChange::Delete, rows: 1, .. })));
            let Body::Commit(outcome) = &three[1].body else { panic!("not a commit") };
            assert_eq!((outcome.xid, outcome.subxacts.len()), (xid, i * 5));
            assert_eq!((three[2].xid, three[2].rmgr, &three[2].body), (None, 11, &Body::Other));
        }
    }
}

#[test]
fn it_says_what_to_feed_and_drops_what_it_skips() {
    let mut decoder = Decoder::at_record(Lsn(6 * SEGMENT + 9000), size());
    assert_eq!(decoder.wants(), Lsn(6 * SEGMENT + PAGE_BYTES), "the page that holds it");
    decoder.feed(&[0; 10]);
    assert_eq!(decoder.wants(), Lsn(6 * SEGMENT + PAGE_BYTES + 10));

    let mut wal = Writer::new(15, Lsn(6 * SEGMENT));
    wal.record(11, 0, 0, &main_data(&[1; 20]));
    wal.switch();
    let garbage = (wal.records[1].0.0 - 6 * SEGMENT) as usize + 24;
    wal.bytes[garbage..].fill(0xEE);
    wal.record(11, 0, 0, &main_data(&[2; 20]));
    let mut decoder = Decoder::at_segment(6, size());
    let mut records = Vec::new();
    for page in wal.bytes.chunks(8192) {
        decoder.feed(page);
        while let Decoded::Record(record) = decoder.poll() {
            records.push(record);
        }
        assert!(decoder.buffer.len() <= 8192, "skipped bytes are not kept");
    }
    assert_eq!(places(&records), wal.records);
    assert_eq!(records[1].body, Body::Switch);
    assert_eq!(records[2].lsn, Lsn(7 * SEGMENT + 40));
}

#[test]
fn a_segment_is_entered_at_the_first_record_that_starts_there() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    wal.record(11, 0, 0, &main_data(&[2; 50_000]));
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    let segment = &wal.bytes[2 * PAGE_BYTES as usize..];
    for piece in [1, 100, 8192, 1 << 20] {
        let (records, end) = read(Decoder::at_segment(6, size()), segment, piece);
        assert_eq!(places(&records), wal.records[2..]);
        assert_eq!(end.reason, EndReason::NoMoreBytes);
    }
}

/// The rest of a record can fill a page to its last byte: the next one then starts on the page behind.
#[test]
fn a_record_may_end_with_its_page() {
    let mut wal = Writer::new(15, Lsn(6 * SEGMENT));
    let filling = PAGE_BYTES as usize - 40 - Header::BYTES - 5;
    wal.record(11, 0, 0, &main_data(&vec![1; filling]));
    assert_eq!(wal.records[0].1, Lsn(6 * SEGMENT + PAGE_BYTES));
    wal.record(11, 0, 0, &main_data(&vec![2; 2 * PAGE_BYTES as usize - 2 * 24 - Header::BYTES - 5]));
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    let (records, end) = read(Decoder::at_segment(6, size()), &wal.bytes, 1000);
    assert_eq!(places(&records), wal.records);
    assert_eq!(records[1].lsn, Lsn(6 * SEGMENT + PAGE_BYTES + 24));
    assert_eq!(records[1].end_lsn, Lsn(6 * SEGMENT + 3 * PAGE_BYTES));

    let from = records[1].end_lsn;
    let rest = &wal.bytes[3 * PAGE_BYTES as usize..];
    let (records, _) = read(Decoder::at_record(from, size()), rest, 1000);
    assert_eq!(places(&records), wal.records[2..], "the end of a record at a page's end is a place to start");

    let (records, _) = read(Decoder::at_record(wal.records[1].0, size()), &wal.bytes[PAGE_BYTES as usize..], 99);
    assert_eq!(places(&records), wal.records[1..]);
    assert_eq!(end.at, wal.position());
}

/// WAL in which the rest of a record is overwritten on the page behind its first, and with which the first begins.
fn overwritten(start: Lsn) -> Writer {
    let mut wal = Writer::new(15, start);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    let aborted = wal.position();
    wal.record_up_to(11, 0, 0, &main_data(&[2; 50_000]), 1);
    wal.page(8, 0);
    wal.record(0, 0xD0, 0, &main_data(&[aborted.0.to_le_bytes(), [0; 8]].concat()));
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    wal
}

/// In the middle of a segment, and where the next one begins.
#[test]
fn an_overwritten_record_is_left_out_as_the_server_leaves_it_out() {
    for start in [START, START.plus(PAGE_BYTES)] {
        let wal = overwritten(start);
        for piece in [1, 777, usize::MAX] {
            let (records, gaps, end) = read_through(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, piece);
            assert_eq!(places(&records), wal.records);
            assert!(
                matches!(records[1].body, Body::OverwriteContrecord { aborted, .. } if aborted == wal.records[0].1)
            );
            assert_eq!(records[1].previous, Some(records[0].lsn), "the record before the aborted one");
            assert_eq!((gaps, end.at), (vec![], wal.position()), "that is no damage");
        }
    }
}

#[test]
fn reading_may_start_behind_an_overwritten_record() {
    let wal = overwritten(START.plus(PAGE_BYTES));
    let segment = &wal.bytes[PAGE_BYTES as usize..];
    let (records, gaps, end) = read_through(Decoder::at_segment(6, size()), segment, 8192);
    assert_eq!(places(&records), wal.records[1..]);
    assert_eq!((gaps, end.at), (vec![], wal.position()));
}

/// The server gives up where the record names another one than was begun, and does not go on with a page that is said
/// to go on with a record and to overwrite it.
#[test]
fn an_overwritten_record_has_to_be_the_one_that_was_begun() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    let aborted = wal.position();
    wal.record_up_to(11, 0, 0, &main_data(&[2; 50_000]), 1);
    let mut both = wal.clone();
    both.page(8 | 1, 50_000);
    let (_, end) = read(Decoder::at_record(wal.records[0].0, size()), &both.bytes, 8192);
    assert_eq!(end, EndOfWal { at: aborted, reason: EndReason::UnexpectedContinuation });

    wal.page(8, 0);
    let found = Lsn(aborted.0 - 8);
    wal.record(0, 0xD0, 0, &main_data(&[found.0.to_le_bytes(), [0; 8]].concat()));
    let reason = EndReason::WrongOverwrite { expected: aborted, found };
    let (_, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192);
    assert_eq!(end, EndOfWal { at: aborted, reason });
    let in_place = read_in_place(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192, 9);
    assert_eq!(in_place.1, end);
}

#[test]
fn a_damaged_record_costs_only_itself() {
    let wal = some_wal(15);
    let start = wal.records[0].0;
    for (broken, (lsn, end)) in wal.records.iter().enumerate().skip(1).take(100) {
        // What it says of the one before it, and the middle of it.
        for at in [lsn.0 + 8, (lsn.0 + end.0) / 2] {
            let mut bytes = wal.bytes.clone();
            let page = at - at % PAGE_BYTES;
            if page > lsn.0 {
                continue;
            }
            bytes[(at - START.0) as usize] ^= 0x40;
            let (records, gaps, end_of_wal) = read_through(Decoder::at_record(start, size()), &bytes, 8192);
            let mut expected = wal.records.clone();
            expected.remove(broken);
            assert_eq!(places(&records), expected);
            assert_eq!(end_of_wal, EndOfWal { at: wal.position(), reason: EndReason::NoMoreBytes });
            let [gap] = gaps[..] else { panic!("{gaps:?}") };
            assert_eq!((gap.stopped.at, gap.found), (wal.records[broken - 1].1, *lsn));
            assert_eq!(gap.resumed, wal.records[broken + 1].0);
            assert!(!gap.stopped.is_ordinary());
        }
    }
}

/// Zeros and old pages end WAL, if nothing comes behind them; else they are a hole in it.
#[test]
fn the_end_of_wal_is_told_from_a_hole() {
    let mut wal = some_wal(15);
    let end = wal.position();
    let page = PAGE_BYTES as usize;
    wal.zeros();
    let zeroed = read_through(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192);
    assert_eq!((zeroed.1, zeroed.2), (vec![], EndOfWal { at: end, reason: EndReason::Zeroed }));
    assert!(zeroed.2.is_ordinary());

    let old = wal.bytes.len() / page * page;
    let mut recycled = wal.bytes[..old - page].to_vec();
    let mut before = Writer::new(15, Lsn(wal.start.0 - 4 * SEGMENT));
    while before.bytes.len() < recycled.len() + 4 * page {
        before.record(11, 0, 0, &main_data(&[5; 2000]));
    }
    let length = recycled.len();
    recycled.extend(&before.bytes[length..]);
    let (records, gaps, ended) = read_through(Decoder::at_record(wal.records[0].0, size()), &recycled, 8192);
    assert_eq!(places(&records), wal.records);
    assert_eq!((gaps, ended.at), (vec![], end));
    assert!(ended.is_ordinary(), "{ended}");

    for hole in [vec![0; 2 * page], before.bytes[page..3 * page].to_vec()] {
        let mut bytes = wal.bytes.clone();
        bytes[page..3 * page].copy_from_slice(&hole);
        let (records, gaps, ended) = read_through(Decoder::at_record(wal.records[0].0, size()), &bytes, 8192);
        let [gap] = gaps[..] else { panic!("{gaps:?}") };
        assert_eq!(gap.found, START.plus(PAGE_BYTES));
        assert!(gap.resumed > START.plus(3 * PAGE_BYTES));
        let kept = wal.records.iter().filter(|(lsn, end)| *end <= gap.stopped.at || *lsn >= gap.resumed).copied();
        assert_eq!(places(&records), kept.collect::<Vec<_>>());
        assert_eq!(ended.at, end);
    }
}

/// Pages that were only half written have records at their end that were once right.
#[test]
fn records_of_an_earlier_use_of_a_page_are_not_taken() {
    let mut wal = some_wal(15);
    let page = PAGE_BYTES as usize;
    let mut before = Writer::new(15, Lsn(START.0 - 4 * SEGMENT));
    for _ in 0..2000 {
        before.record(11, 0, 0, &main_data(&[5; 20]));
    }
    let whole = wal.records.clone();
    let mut header = wal.bytes[3 * page..3 * page + 24].to_vec();
    (header[2], header[16]) = (4, 0);
    wal.bytes[3 * page..4 * page].copy_from_slice(&before.bytes[3 * page..4 * page]);
    wal.bytes[3 * page..3 * page + 24].copy_from_slice(&header);
    let (records, gaps, _) = read_through(Decoder::at_record(whole[0].0, size()), &wal.bytes, 8192);
    assert!(places(&records).iter().all(|place| whole.contains(place)), "{gaps:?}");
    assert_eq!(gaps.len(), 1);
}

/// Where nothing can be read any more, what was wrong is said with its place.
#[test]
fn damage_at_the_end_is_named() {
    let mut wal = some_wal(15);
    let (last, _) = wal.records.pop().unwrap();
    let at = (last.0 - START.0) as usize + 30;
    wal.bytes[at] ^= 1;
    let mut decoder = Decoder::at_record(wal.records[0].0, size());
    let _ = decoder.read_through(&wal.bytes, &mut |_| ControlFlow::Continue(()));
    assert_eq!(decoder.stopped_at(), Some(last));
    let end = decoder.finish();
    assert_eq!(end, EndOfWal { at: last, reason: EndReason::BadChecksum });
    assert!(!end.is_ordinary());
}

/// One page of a timeline that the next one is not of: the page is wrong, not all that follow.
#[test]
fn a_page_of_a_wrong_timeline_is_no_new_timeline() {
    let mut wal = some_wal(15);
    wal.bytes[PAGE_BYTES as usize + 6] ^= 0x10;
    let (records, gaps, end) = read_through(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192);
    let [gap] = gaps[..] else { panic!("{gaps:?}") };
    assert!(matches!(gap.stopped.reason, EndReason::TimelineWentBack { .. }), "{gap}");
    assert!(records.iter().rev().take(50).all(|record| record.timeline == TimelineId(1)));
    assert_eq!((records.last().map(|record| record.end_lsn), end.at), (Some(wal.position()), wal.position()));
    assert!(records.len() + 2 >= wal.records.len());
}

#[test]
fn a_segment_of_another_cluster_is_left_out() {
    let mut wal = Writer::new(15, Lsn(6 * SEGMENT));
    for i in 0..3 {
        wal.record(11, 0, 0, &main_data(&[i; 40]));
        wal.record(11, 0, 0, &main_data(&[i; 9000]));
        wal.switch();
    }
    wal.bytes[SEGMENT as usize + 24] ^= 1;
    let (records, gaps, _) = read_through(Decoder::at_segment(6, size()), &wal.bytes, 8192);
    assert_eq!(places(&records), [&wal.records[..3], &wal.records[6..]].concat());
    let [gap] = gaps[..] else { panic!("{gaps:?}") };
    assert_eq!((gap.found, gap.resumed), (Lsn(7 * SEGMENT), Lsn(8 * SEGMENT + 40)));
    assert!(matches!(gap.stopped.reason, EndReason::WrongSystem { .. }));
}

#[test]
fn timelines_go_forward_only() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 9000]));
    wal.timeline = TimelineId(3);
    wal.record(11, 0, 0, &main_data(&[2; 9000]));
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    wal.timeline = TimelineId(2);
    wal.record(11, 0, 0, &main_data(&[4; 9000]));
    let (records, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 8192);
    assert_eq!(records.iter().map(|record| record.timeline.0).collect::<Vec<_>>(), [1, 1, 3]);
    assert_eq!(end.at, wal.records[2].1);
    assert_eq!(end.reason, EndReason::TimelineWentBack { from: TimelineId(3), to: TimelineId(2) });
}

/// What ends WAL, by what is done to the bytes of the second of three records, or to its pages.
#[test]
fn the_end_says_why() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    let second = wal.record(10, 0, 0, &main_data(&[2; 9000]));
    wal.record(11, 0, 0, &main_data(&[3; 8000]));
    let at = (second.0 - START.0) as usize;
    let (page, segment) = (PAGE_BYTES as usize, 2 * PAGE_BYTES as usize);
    let end_of = |changes: &[(usize, &[u8])]| {
        let mut bytes = wal.bytes.clone();
        for (at, change) in changes {
            bytes[*at..at + change.len()].copy_from_slice(change);
        }
        read(Decoder::at_record(wal.records[0].0, size()), &bytes, 8192)
    };
    let ends = |changes: &[(usize, &[u8])], whole: usize, reason: EndReason| {
        let (records, end) = end_of(changes);
        assert_eq!(places(&records), wal.records[..whole], "{reason:?}");
        assert_eq!(end, EndOfWal { at: wal.records[whole - 1].1, reason });
    };
    let previous = wal.records[0].0;
    let remaining = u32::from_le_bytes(wal.bytes[page + 16..page + 20].try_into().unwrap());

    ends(&[(at, &[0; 4])], 1, EndReason::Zeroed);
    ends(&[(at, &[23, 0, 0, 0])], 1, EndReason::BadLength(23));
    ends(&[(at, &[0xFF; 4])], 1, EndReason::BadLength(u32::MAX));
    ends(
        &[(at + 8, &[1])],
        1,
        EndReason::BadPrevLink { expected: Some(previous), found: Lsn(previous.0 - previous.0 % 256 + 1) },
    );
    ends(&[(at + 17, &[22])], 1, EndReason::UnknownRmgr(22));
    ends(&[(at + 17, &[200])], 1, EndReason::BadChecksum);
    ends(&[(at + 9020, &[1])], 1, EndReason::BadChecksum);
    ends(&[(at + 24, &[40])], 1, EndReason::BadChecksum);
    ends(&[(page, &[0; 24])], 1, EndReason::MissingContinuation);
    ends(&[(page + 2, &[4])], 1, EndReason::MissingContinuation);
    ends(&[(page + 2, &[0x15])], 1, EndReason::BadPage(BadPage::Flags(0x15)));
    ends(&[(page, &[0x13])], 1, EndReason::BadMagic { expected: 0xD110, found: 0xD113 });
    ends(&[(page + 8, &[0; 8])], 1, EndReason::WrongPageAddress { expected: START.plus(PAGE_BYTES), found: Lsn(0) });
    ends(&[(page + 16, &[1, 0, 0, 0])], 1, EndReason::BadContinuation { expected: remaining, found: 1 });
    ends(&[(segment + 2, &[5])], 2, EndReason::BadPage(BadPage::Flags(5)));
    ends(&[(segment + 32, &[0, 0, 0x20, 0])], 2, EndReason::WrongSegmentSize(1 << 21));
    ends(&[(segment + 36, &[0, 0x40])], 2, EndReason::BadPage(BadPage::PageSize(0x4000)));

    for within_a_page in [28, 4] {
        let (records, end) = end_of(&[((wal.records[0].0.0 - START.0) as usize + within_a_page, &[7])]);
        assert_eq!((records.len(), end.reason), (0, EndReason::BadChecksum));
    }
    let (_, end) = end_of(&[(0, &[0xFF; 2])]);
    assert_eq!(end, EndOfWal { at: wal.records[0].0, reason: EndReason::UnknownMagic(0xFFFF) });
}

#[test]
fn another_clusters_segment_does_not_go_on() {
    let mut wal = Writer::new(15, Lsn(6 * SEGMENT));
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    wal.switch();
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    wal.bytes[SEGMENT as usize + 24] ^= 1;
    let (records, end) = read(Decoder::at_segment(6, size()), &wal.bytes, 8192);
    assert_eq!((records.len(), end.at), (2, Lsn(7 * SEGMENT)));
    assert_eq!(end.reason, EndReason::WrongSystem { expected: SYSTEM, found: SYSTEM ^ 1 });
}

#[test]
fn no_record_starts_within_a_header_or_a_continuation() {
    let mut wal = Writer::new(15, START);
    let first = wal.record(11, 0, 0, &main_data(&[1; 9000]));
    for (start, reason) in [
        (START.plus(8), EndReason::NotARecordStart),
        (first.plus(4), EndReason::NotARecordStart),
        (Lsn(u64::MAX), EndReason::NotARecordStart),
    ] {
        let (records, end) = read(Decoder::at_record(start, size()), &wal.bytes, 8192);
        assert_eq!((records.len(), end), (0, EndOfWal { at: start, reason }));
    }
    let (_, end) = read(Decoder::at_segment(u64::MAX, size()), &wal.bytes, 8192);
    assert_eq!(end.reason, EndReason::NotARecordStart);
    let second_page = START.plus(PAGE_BYTES);
    for start in [second_page, second_page.plus(24)] {
        let (records, end) = read(Decoder::at_record(start, size()), &wal.bytes[PAGE_BYTES as usize..], 8192);
        assert_eq!((records.len(), end.at, end.reason), (0, start, EndReason::UnexpectedContinuation));
    }
}

#[test]
fn the_end_stays_the_end() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    wal.zeros();
    let mut decoder = Decoder::at_record(wal.records[0].0, size());
    decoder.feed(&wal.bytes);
    assert!(matches!(decoder.poll(), Decoded::Record(_)));
    let end = EndOfWal { at: wal.records[0].1, reason: EndReason::Zeroed };
    assert_eq!(decoder.poll(), Decoded::End(end));
    decoder.feed(&wal.bytes);
    assert_eq!(decoder.poll(), Decoded::End(end));
    assert_eq!(decoder.finish(), end);
    assert_eq!(decoder.buffer.capacity(), 0);
}

/// A length of a gigabyte costs what really comes in, and of a record that is only counted nothing is kept.
#[test]
fn a_long_record_is_not_kept() {
    let mut wal = Writer::new(15, START);
    wal.record(21, 0, 0, &main_data(&vec![1; 5 << 20]));
    let mut decoder = Decoder::at_record(wal.records[0].0, size());
    let mut records = 0;
    for page in wal.bytes.chunks(8192) {
        decoder.feed(page);
        while let Decoded::Record(_) = decoder.poll() {
            records += 1;
        }
        assert!(decoder.buffer.capacity() <= 2 * 8192);
    }
    assert_eq!(records, 1);
}

/// (resource manager, info, block references, bytes of each, bytes of main data)
fn any_records() -> impl Strategy<Value = Vec<(u8, u8, u8, u16, usize)>> {
    let kind = prop_oneof![Just((0u8, 0x70u8)), Just((1, 0)), Just((1, 0x80)), Just((10, 0x10)), Just((21, 0))];
    let record = (kind, 0u8..8, 0u16..3000, 80usize..3000);
    let record = record.prop_map(|((rmgr, info), blocks, payload, main)| {
        // Half of the commits have their time only.
        let main = if (rmgr, info) == (1, 0) && payload % 2 == 0 { ONLY_A_TIME } else { main };
        (rmgr, info, blocks, payload, main)
    });
    proptest::collection::vec(record, 1..20)
}

/// Bytes of main data of a commit of which there is no more to say.
const ONLY_A_TIME: usize = 8;

fn written(major: u16, records: &[(u8, u8, u8, u16, usize)]) -> Writer {
    let mut wal = Writer::new(major, START);
    for (rmgr, info, blocks, payload, main) in records {
        let references = if *main == ONLY_A_TIME { 0 } else { *blocks };
        wal.record(*rmgr, *info, 700 + u32::from(*blocks) % 2, &with_blocks(references, *payload, &vec![0; *main]));
    }
    wal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_it_is_fed_makes_no_difference(
        records in any_records(), major in 13u16..=18, piece in 1usize..20_000, most in 1usize..30,
    ) {
        let wal = written(major, &records);
        let start = wal.records[0].0;
        let whole = read(Decoder::at_record(start, size()), &wal.bytes, usize::MAX);
        prop_assert_eq!(places(&whole.0), &wal.records[..]);
        prop_assert_eq!(&read(Decoder::at_record(start, size()), &wal.bytes, piece), &whole);
        let through = read_through(Decoder::at_record(start, size()), &wal.bytes, piece);
        prop_assert_eq!((&through.0, &through.1, &through.2), (&whole.0, &vec![], &whole.1));
        let together = CameTo::together(Decoder::at_record(start, size()), &wal.bytes, piece);
        prop_assert_eq!(together, CameTo::singly(through));
        for (from, floor) in [(Lsn(0), 0), (Lsn(0), 1), (start.plus(9000), 50)] {
            let summarizer = || Summarizer::new(SYSTEM, PgMajor(major), from, floor);
            let (mut together, mut singly) = (Summarized(summarizer()), summarizer());
            let mut decoder = Decoder::at_record(start, size());
            for piece in wal.bytes.chunks(piece) {
                prop_assert_eq!(decoder.look_through(piece, &mut together), ControlFlow::Continue(()));
            }
            whole.0.iter().for_each(|record| singly.feed(record));
            prop_assert_eq!(together.0.finish(Tail::Full), singly.finish(Tail::Full));
        }
        prop_assert_eq!(read_in_place(Decoder::at_record(start, size()), &wal.bytes, piece, most), whole);
    }

    #[test]
    fn cut_anywhere_it_ends_behind_the_last_whole_record(records in any_records(), cut: prop::sample::Index) {
        let wal = written(15, &records);
        let length = cut.index(wal.bytes.len());
        let (read, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes[..length], 8192);
        // The padding behind a record may be missing.
        let whole = wal.records.iter().filter(|(_, end)| end.0 < START.0 + length as u64 + 8).count();
        prop_assert!(read.len() == whole || read.len() + 1 == whole);
        prop_assert_eq!(places(&read), &wal.records[..read.len()]);
        prop_assert_eq!(end.at, read.last().map_or(wal.records[0].0, |record| record.end_lsn));
    }

    #[test]
    fn a_flipped_bit_never_makes_a_record(
        records in any_records(), major in 13u16..=18, at: prop::sample::Index, bit in 0u8..8, piece in 1usize..20_000,
    ) {
        let mut wal = written(major, &records);
        let (whole, _) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, piece);
        let at = at.index(wal.bytes.len());
        wal.bytes[at] ^= 1 << bit;
        let (mut records, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, piece);
        let in_place = read_in_place(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, piece, usize::MAX);
        prop_assert_eq!(&in_place, &(records.clone(), end));
        for (record, whole) in records.iter_mut().zip(&whole) {
            // Nothing protects a page's timeline but that it must not go back.
            record.timeline = whole.timeline;
        }
        prop_assert_eq!(&records[..], &whole[..records.len()]);
        prop_assert_eq!(end.at, records.last().map_or(wal.records[0].0, |record| record.end_lsn));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hang(
        garbage in proptest::collection::vec(any::<u8>(), 0..3 * 8192),
        start in 0u64..3 * 8192,
        flags in 0u16..16,
        remaining: u32,
        piece in 1usize..20_000,
    ) {
        let mut wal = Writer::new(15, START);
        wal.page(flags & !2, 0);
        wal.bytes[16..20].copy_from_slice(&remaining.to_le_bytes());
        let header = wal.bytes.clone();
        for bytes in [&garbage, &[header, garbage.clone()].concat()] {
            let _ = read(Decoder::at_record(START.plus(start), size()), bytes, piece);
            let _ = read(Decoder::at_segment(start, size()), bytes, piece);
            for from_record in [true, false] {
                let decoder = || match from_record {
                    true => Decoder::at_record(START.plus(start), size()),
                    false => Decoder::at_segment(START.0 / SEGMENT, size()),
                };
                let through = read_through(decoder(), bytes, piece);
                prop_assert_eq!(CameTo::together(decoder(), bytes, piece), CameTo::singly(through));
            }
        }
    }

    /// One wrong bit costs at most what lies on its page and what goes on over it, and it is said where that is.
    #[test]
    fn a_flipped_bit_costs_no_more_than_its_page(
        records in any_records(), major in 13u16..=18, at: prop::sample::Index, bit in 0u8..8, piece in 1usize..20_000,
    ) {
        let mut wal = written(major, &records);
        let (whole, _) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, piece);
        let at = at.index(wal.bytes.len());
        let border = (6 * SEGMENT - START.0) as usize;
        // Nothing else says of which major a stretch is, and whose a segment is.
        prop_assume!(at >= 2 && !(border + 24..border + 36).contains(&at));
        wal.bytes[at] ^= 1 << bit;
        let damaged = START.plus(at as u64);
        let start = || Decoder::at_record(wal.records[0].0, size());
        let (mut records, gaps, end) = read_through(start(), &wal.bytes, piece);
        let singly = CameTo::singly((records.clone(), gaps.clone(), end));
        prop_assert_eq!(CameTo::together(start(), &wal.bytes, piece), singly);
        let page = Lsn(damaged.0 - damaged.0 % PAGE_BYTES)..Lsn(damaged.0 - damaged.0 % PAGE_BYTES + PAGE_BYTES);
        for record in &whole {
            let there = records.iter_mut().find(|found| found.lsn == record.lsn);
            let untouched = record.end_lsn <= page.start || page.end <= record.lsn;
            prop_assert!(there.is_some() || !untouched, "{} is missing: {gaps:?} {end}", record.lsn);
            if let Some(there) = there {
                there.timeline = record.timeline;
            }
        }
        prop_assert!(records.iter().all(|record| whole.contains(record)), "a record was invented");
        prop_assert!(records.is_sorted_by_key(|record| record.lsn));
        if records.len() < whole.len() {
            let named = |from: Lsn, to: Lsn| from.0 - from.0 % PAGE_BYTES <= damaged.0 && damaged < to;
            let in_a_gap = gaps.iter().any(|gap| named(gap.stopped.at, gap.resumed) && gap.found < gap.resumed);
            prop_assert!(in_a_gap || named(end.at, Lsn(u64::MAX)), "{damaged} is not in {gaps:?}, nor behind {end}");
        }
    }

    /// Zeros, old pages and garbage in the middle are left out, and nothing is made of them.
    #[test]
    fn what_is_behind_a_hole_is_found(
        records in any_records(),
        major in 13u16..=18,
        from: prop::sample::Index,
        garbage in prop_oneof![
            (1usize..30_000).prop_map(|length| vec![0; length]),
            proptest::collection::vec(any::<u8>(), 1..30_000),
        ],
        piece in 1usize..20_000,
    ) {
        let mut wal = written(major, &records);
        let start = wal.records[0].0;
        let (whole, _) = read(Decoder::at_record(start, size()), &wal.bytes, piece);
        let from = from.index(wal.bytes.len());
        let to = (from + garbage.len()).min(wal.bytes.len());
        let border = (6 * SEGMENT - START.0) as usize;
        // Nothing else says whose a segment is.
        prop_assume!(from >= 24 && !(border + 24..border + 36).contains(&from));
        wal.bytes[from..to].copy_from_slice(&garbage[..to - from]);
        let (found, gaps, end) = read_through(Decoder::at_record(start, size()), &wal.bytes, piece);
        let together = CameTo::together(Decoder::at_record(start, size()), &wal.bytes, piece);
        prop_assert_eq!(together, CameTo::singly((found.clone(), gaps.clone(), end)));
        prop_assert!(found.iter().all(|record| whole.contains(record)), "a record was invented");
        let page_behind = START.plus(to as u64).0.next_multiple_of(PAGE_BYTES);
        let behind: Vec<_> = whole.iter().filter(|record| record.lsn.0 >= page_behind).collect();
        prop_assert!(behind.iter().all(|record| found.contains(record)), "what lies behind is missing: {gaps:?} {end}");
        prop_assert!(gaps.len() <= 1);
        for gap in gaps {
            prop_assert!(gap.stopped.at.0 < START.0 + to as u64 && gap.resumed.0 > START.0 + from as u64 - 8, "{}", gap);
        }
    }
}
