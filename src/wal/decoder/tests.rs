//! What the decoder makes of WAL that is sound, cut off, damaged or none at all.

use super::*;
use crate::core::{TimelineId, Xid};
use crate::wal::page::BadPage;
use crate::wal::record::Header;
use crate::wal::rmgr::{Body, RowChange, Rows};
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

#[test]
fn an_overwritten_record_is_left_out_as_the_server_leaves_it_out() {
    let mut wal = Writer::new(15, START);
    wal.record(11, 0, 0, &main_data(&[1; 40]));
    wal.record_up_to(11, 0, 0, &main_data(&[2; 50_000]), 1);
    let aborted = wal.records[0].1;
    wal.page(8, 0);
    wal.record(0, 0xD0, 0, &main_data(&[aborted.0.to_le_bytes(), [0; 8]].concat()));
    wal.record(11, 0, 0, &main_data(&[3; 40]));
    let (records, end) = read(Decoder::at_record(wal.records[0].0, size()), &wal.bytes, 777);
    assert_eq!(places(&records), wal.records);
    assert_eq!(end.at, wal.position());
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
    proptest::collection::vec(
        record.prop_map(|((rmgr, info), blocks, payload, main)| (rmgr, info, blocks, payload, main)),
        1..20,
    )
}

fn written(major: u16, records: &[(u8, u8, u8, u16, usize)]) -> Writer {
    let mut wal = Writer::new(major, START);
    for (rmgr, info, blocks, payload, main) in records {
        wal.record(*rmgr, *info, 700, &with_blocks(*blocks, *payload, &vec![0; *main]));
    }
    wal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_it_is_fed_makes_no_difference(records in any_records(), major in 13u16..=18, piece in 1usize..20_000) {
        let wal = written(major, &records);
        let start = wal.records[0].0;
        let whole = read(Decoder::at_record(start, size()), &wal.bytes, usize::MAX);
        prop_assert_eq!(places(&whole.0), &wal.records[..]);
        prop_assert_eq!(read(Decoder::at_record(start, size()), &wal.bytes, piece), whole);
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
        }
    }
}
