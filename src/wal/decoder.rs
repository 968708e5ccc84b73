//! Reading one stretch of WAL: bytes are fed, records are taken out, until WAL ends.

use std::fmt;

use super::layout::Layout;
use super::page::{BadPage, PAGE_BYTES, PageHeader};
use super::record::{self, Assembly, Header, Record};
use super::rmgr::Body;
use crate::core::{Lsn, SegmentSize, TimelineId, Xid};

/// Reads one stretch of WAL, fed in order.
///
/// The bytes fed are consecutive, always: also where the decoder will skip them, as behind a switch of segments. The
/// next segment's file may be another timeline's. What ends WAL for the server (`XLogReadRecord`,
/// `src/backend/access/transam/xlogreader.c`) ends it here, at the same place.
///
/// ```
/// use walback::core::SegmentSize;
/// use walback::wal::{Decoded, Decoder};
///
/// let mut decoder = Decoder::at_segment(3, SegmentSize::DEFAULT);
/// for page in [[0; 8192]] {
///     decoder.feed(&page);
///     loop {
///         match decoder.poll() {
///             Decoded::Record(record) => println!("{}", record.lsn),
///             Decoded::Hungry => break,
///             Decoded::End(end) => {
///                 assert_eq!(end.to_string(), "WAL ends at 0/3000000: nothing was written there yet");
///                 break;
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Decoder {
    size: SegmentSize,
    /// What was fed and is not behind `at`.
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    base: Lsn,
    /// The position of the next byte to be looked at. May be ahead of what was fed: what lies between is skipped.
    at: Lsn,
    state: State,
    /// What is known from the pages so far; nothing before the first.
    stretch: Option<Stretch>,
    /// Just behind the last whole record: where the server's replay would end.
    replayed: Lsn,
    /// Where the last whole record starts.
    previous: Option<Lsn>,
    end: Option<EndOfWal>,
}

/// Where a stretch may start at the farthest. No cluster comes this far, and behind it positions could overflow.
const FARTHEST: Lsn = Lsn(1 << 63);

/// What has to be alike on all pages of a stretch, or must not go back.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    layout: &'static Layout,
    timeline: TimelineId,
    system_identifier: Option<u64>,
}

/// What lies at [`Decoder::at`]. At the start of a page that is always its header.
#[derive(Debug)]
enum State {
    /// Some page: the first record that starts there or later is looked for.
    Seeking,
    /// The page that holds this record's start.
    Starting(Lsn),
    /// The start of a record.
    Between,
    /// The rest of a record.
    Inside(Assembly),
}

/// What [`Decoder::poll`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The next record.
    Record(Record),
    /// All that was fed has been read: feed more, or [`Decoder::finish`].
    Hungry,
    /// WAL ends. It is said again however often it is asked.
    End(EndOfWal),
}

/// Where WAL ends, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfWal {
    /// Just behind the last whole record: where the server's replay ends, and where the next record would have
    /// started (behind the page header, where this is the start of a page). Where there was no record: where the
    /// first was looked for.
    pub at: Lsn,
    /// Why there is no record.
    pub reason: EndReason,
}

impl fmt::Display for EndOfWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAL ends at {}: {}", self.at, self.reason)
    }
}

/// Why there is no record where one was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// Zeros: the ordinary end of WAL.
    #[error("nothing was written there yet")]
    Zeroed,
    /// No more was fed, and nothing was begun.
    #[error("there is no more WAL")]
    NoMoreBytes,
    /// No more was fed, but a record or a page header is not complete: the ordinary end of an archive whose last
    /// segment is full.
    #[error("there is no more WAL, and the record there is not complete")]
    CutOff,
    /// The first page is of no major that Walback knows.
    #[error("the page magic {0:04X} is of no PostgreSQL from 13 to 18")]
    UnknownMagic(u16),
    /// A page is not of the same major as those before, or no page of WAL at all.
    #[error("a page has the magic {found:04X} instead of {expected:04X}")]
    BadMagic {
        /// Of the pages before.
        expected: u16,
        /// Of this one.
        found: u16,
    },
    /// A page header is none that a server writes.
    #[error("a page is damaged: {0}")]
    BadPage(BadPage),
    /// A page says that it belongs elsewhere: most often an old segment under a new name, of which this page was not
    /// written again. That is an ordinary end of WAL too.
    #[error("the page at {expected} holds what belongs to {found}: it was recycled and not written again")]
    WrongPageAddress {
        /// Where the page is.
        expected: Lsn,
        /// Where it says it is.
        found: Lsn,
    },
    /// A segment is of another size than was said.
    #[error("the segment is {0} bytes long, unlike the others")]
    WrongSegmentSize(u32),
    /// A segment is another cluster's.
    #[error("the segment belongs to the cluster {found}, those before it to {expected}")]
    WrongSystem {
        /// The system identifier so far.
        expected: u64,
        /// That of this segment.
        found: u64,
    },
    /// A page is of an older timeline than one before.
    #[error("a page of timeline {to} follows one of timeline {from}")]
    TimelineWentBack {
        /// Of the page before.
        from: TimelineId,
        /// Of this page.
        to: TimelineId,
    },
    /// The position that was asked for cannot be a record's start.
    #[error("no record can start there")]
    NotARecordStart,
    /// A page begins with the rest of a record where one had to start.
    #[error("the rest of a record stands where one should start")]
    UnexpectedContinuation,
    /// A page does not begin with the rest of the record that was begun.
    #[error("the rest of the record there is missing")]
    MissingContinuation,
    /// A page begins with the rest of another record than the one that was begun.
    #[error("the rest of the record there should be {expected} bytes long, not {found}")]
    BadContinuation {
        /// Bytes that the record lacks.
        expected: u32,
        /// Bytes that the page announces.
        found: u32,
    },
    /// Not a length that a record can have.
    #[error("a record cannot be {0} bytes long")]
    BadLength(u32),
    /// Not a resource manager.
    #[error("there is no resource manager {0}")]
    UnknownRmgr(u8),
    /// The record does not follow the one before it.
    #[error("the record says that the one before it starts at {found}{}", .expected.map(|lsn| format!(", not at {lsn}")).unwrap_or_default())]
    BadPrevLink {
        /// Where the one before starts, if there was one.
        expected: Option<Lsn>,
        /// Where this one says it starts.
        found: Lsn,
    },
    /// The record is damaged.
    #[error("the record's checksum does not match")]
    BadChecksum,
    /// The record's checksum is right, but what it says makes no sense.
    #[error("the record of resource manager {rmgr} with info {info:02X} is not laid out as its version has it")]
    Malformed {
        /// Its resource manager.
        rmgr: u8,
        /// Its info.
        info: u8,
    },
}

/// What one step came to.
enum Step {
    /// It went forward.
    On,
    /// There are too few bytes to go on.
    Hungry,
    /// It came to a record's end.
    Record(Record),
}

impl Decoder {
    /// Starts at the record that starts at `start`: a redo pointer, or where another decoder stopped. Feeding begins
    /// with the page that holds it, see [`Decoder::wants`].
    #[must_use]
    pub fn at_record(start: Lsn, size: SegmentSize) -> Decoder {
        let page = Lsn(start.0 - start.0 % PAGE_BYTES);
        Decoder::new(page, State::Starting(start), start, size)
    }

    /// Starts at the first record that starts in segment `number`, or later if none does. Feeding begins with the
    /// segment's first byte.
    #[must_use]
    pub fn at_segment(number: u64, size: SegmentSize) -> Decoder {
        let start = size.start_of(number);
        Decoder::new(start, State::Seeking, start, size)
    }

    fn new(base: Lsn, state: State, replayed: Lsn, size: SegmentSize) -> Decoder {
        let unreachable = EndOfWal { at: replayed, reason: EndReason::NotARecordStart };
        Decoder {
            size,
            buffer: Vec::new(),
            base,
            at: base,
            state,
            stretch: None,
            replayed,
            previous: None,
            end: (base > FARTHEST).then_some(unreachable),
        }
    }

    /// The position of the next byte to feed. Never skips any.
    #[must_use]
    pub fn wants(&self) -> Lsn {
        self.base.plus(self.buffer.len() as u64)
    }

    /// Takes the bytes at [`Decoder::wants`], any number. They are kept until [`Decoder::poll`] has read them, so that
    /// who polls until hungry after each feeding needs no more memory than the largest feeding and one page. After the
    /// end of WAL they are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        let read = usize::try_from(self.at.bytes_since(self.base)).unwrap_or(usize::MAX);
        let done = read.min(self.buffer.len());
        self.buffer.drain(..done);
        self.base = self.base.plus(done as u64);
        if self.end.is_some() {
            self.base = self.base.plus(bytes.len() as u64);
            return;
        }
        let skipped = if self.buffer.is_empty() { (read - done).min(bytes.len()) } else { 0 };
        self.base = self.base.plus(skipped as u64);
        self.buffer.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next record among what was fed.
    pub fn poll(&mut self) -> Decoded {
        loop {
            if let Some(end) = self.end {
                return Decoded::End(end);
            }
            match self.step() {
                Ok(Step::On) => {}
                Ok(Step::Hungry) => return Decoded::Hungry,
                Ok(Step::Record(record)) => return Decoded::Record(record),
                Err(reason) => {
                    self.stop(reason);
                }
            }
        }
    }

    /// Whether a record has begun of which not all bytes were fed.
    #[must_use]
    pub fn is_inside_record(&self) -> bool {
        self.end.is_none() && matches!(self.state, State::Inside(_))
    }

    /// Says that there are no more bytes to feed, and where WAL ends therefore. To be called when [`Decoder::poll`]
    /// is hungry: records that were not taken out are lost.
    pub fn finish(&mut self) -> EndOfWal {
        let begun = matches!(self.state, State::Inside(_)) || self.wants() > self.at;
        self.stop(if begun { EndReason::CutOff } else { EndReason::NoMoreBytes })
    }

    /// Ends WAL, unless it has ended already.
    fn stop(&mut self, reason: EndReason) -> EndOfWal {
        let end = *self.end.get_or_insert(EndOfWal { at: self.replayed, reason });
        let wants = self.wants();
        (self.buffer, self.base, self.at) = (Vec::new(), wants, wants);
        end
    }

    fn step(&mut self) -> Result<Step, EndReason> {
        if self.at.0.is_multiple_of(PAGE_BYTES) {
            return self.enter_page();
        }
        match self.state {
            State::Between => self.read_record(),
            State::Inside(_) => self.read_on(),
            State::Seeking | State::Starting(_) => Err(EndReason::NotARecordStart),
        }
    }

    /// What was fed and not read yet of the page that `at` lies on.
    fn rest_of_page(&self) -> &[u8] {
        let from = usize::try_from(self.at.bytes_since(self.base)).unwrap_or(usize::MAX);
        let rest = self.buffer.get(from..).unwrap_or_default();
        rest.get(..self.room_on_page()).unwrap_or(rest)
    }

    /// Bytes from `at` to the end of the page.
    fn room_on_page(&self) -> usize {
        (PAGE_BYTES - self.at.0 % PAGE_BYTES) as usize
    }

    fn enter_page(&mut self) -> Result<Step, EndReason> {
        let Some(header) = PageHeader::parse(self.rest_of_page()) else { return Ok(Step::Hungry) };
        self.check_page(&header)?;
        let first = self.at.plus(header.size());
        match &self.state {
            State::Seeking if header.continues_record() => {
                let continued = u64::from(header.remaining).next_multiple_of(8);
                let page_end = self.at.plus(PAGE_BYTES);
                let next = first.plus(continued);
                self.at = next.min(page_end);
                self.replayed = self.at;
                if next < page_end {
                    self.state = State::Between;
                }
                return Ok(Step::On);
            }
            State::Seeking => {
                self.state = State::Between;
                self.replayed = first;
            }
            State::Starting(start) if *start == self.at || *start == first => {
                if header.continues_record() {
                    return Err(EndReason::UnexpectedContinuation);
                }
                self.state = State::Between;
            }
            State::Starting(start) if *start > first && start.0.is_multiple_of(8) => {
                self.at = *start;
                self.state = State::Between;
                return Ok(Step::On);
            }
            State::Starting(_) => return Err(EndReason::NotARecordStart),
            State::Between if header.continues_record() => return Err(EndReason::UnexpectedContinuation),
            State::Between => {}
            State::Inside(_) if header.overwrites_record() => self.state = State::Between,
            State::Inside(record) => check_continuation(record, &header)?,
        }
        self.at = first;
        Ok(Step::On)
    }

    /// Checks the page at `at` against those before it, as `XLogReaderValidatePageHeader` does, and takes over what it says.
    fn check_page(&mut self, header: &PageHeader) -> Result<(), EndReason> {
        if header.is_zeroed() {
            let begun = matches!(self.state, State::Inside(_));
            return Err(if begun { EndReason::MissingContinuation } else { EndReason::Zeroed });
        }
        let layout = match self.stretch {
            Some(Stretch { layout, .. }) if layout.magic == header.magic => layout,
            Some(Stretch { layout, .. }) => {
                return Err(EndReason::BadMagic { expected: layout.magic, found: header.magic });
            }
            None => Layout::of_magic(header.magic).ok_or(EndReason::UnknownMagic(header.magic))?,
        };
        header.check_form(self.at.0.is_multiple_of(self.size.bytes())).map_err(EndReason::BadPage)?;
        let mut system_identifier = self.stretch.and_then(|stretch| stretch.system_identifier);
        if let Some(long) = header.long {
            let found = long.system_identifier;
            let expected = *system_identifier.get_or_insert(found);
            if expected != found {
                return Err(EndReason::WrongSystem { expected, found });
            }
            if u64::from(long.segment_bytes) != self.size.bytes() {
                return Err(EndReason::WrongSegmentSize(long.segment_bytes));
            }
        }
        if header.address != self.at {
            return Err(EndReason::WrongPageAddress { expected: self.at, found: header.address });
        }
        if let Some(Stretch { timeline: from, .. }) = self.stretch
            && header.timeline < from
        {
            return Err(EndReason::TimelineWentBack { from, to: header.timeline });
        }
        self.stretch = Some(Stretch { layout, timeline: header.timeline, system_identifier });
        Ok(())
    }

    /// Reads the record that starts at `at`, or its beginning if it goes on behind the page.
    fn read_record(&mut self) -> Result<Step, EndReason> {
        let Some(Stretch { layout, timeline, .. }) = self.stretch else { return Err(EndReason::NotARecordStart) };
        let bytes = self.rest_of_page();
        let Some(total) = bytes.first_chunk().map(|total| u32::from_le_bytes(*total)) else { return Ok(Step::Hungry) };
        record::check_length(total)?;
        if total as usize > self.room_on_page() {
            self.state = State::Inside(Assembly::new(self.at, timeline, total));
            return Ok(Step::On);
        }
        let Some(header) = Header::parse(bytes) else { return Ok(Step::Hungry) };
        header.check(layout, self.at, self.previous)?;
        let Some(bytes) = bytes.get(..total as usize) else { return Ok(Step::Hungry) };
        let body = record::read_whole(layout, &header, bytes)?;
        let end = self.at.plus(u64::from(total).next_multiple_of(8));
        Ok(Step::Record(self.complete(self.at, end, timeline, &header, body)))
    }

    /// Reads on in a record that began on an earlier page, or begins on this one and goes on behind it.
    fn read_on(&mut self) -> Result<Step, EndReason> {
        let Some(Stretch { layout, .. }) = self.stretch else { return Err(EndReason::NotARecordStart) };
        let previous = self.previous;
        let State::Inside(mut record) = std::mem::replace(&mut self.state, State::Between) else {
            return Err(EndReason::NotARecordStart);
        };
        let bytes = self.rest_of_page();
        let bytes = bytes.get(..record.missing()).unwrap_or(bytes);
        let read = bytes.len();
        let pushed = record.push(layout, previous, bytes);
        let at = self.at.plus(read as u64);
        if pushed.is_ok() && record.missing() == 0 {
            let (header, body) = record.finish(layout)?;
            let end = Lsn(at.0.next_multiple_of(8));
            return Ok(Step::Record(self.complete(record.lsn, end, record.timeline, &header, body)));
        }
        self.at = at;
        self.state = State::Inside(record);
        pushed.map(|()| if read == 0 { Step::Hungry } else { Step::On })
    }

    /// Takes over a whole record that ends at `end`.
    fn complete(&mut self, lsn: Lsn, end: Lsn, timeline: TimelineId, header: &Header, body: Body) -> Record {
        let end_lsn = if body == Body::Switch { Lsn(end.0.next_multiple_of(self.size.bytes())) } else { end };
        self.at = end_lsn;
        self.replayed = end_lsn;
        self.previous = Some(lsn);
        let xid = Some(Xid(header.xid)).filter(|xid| xid.0 != 0);
        let previous = header.previous.valid();
        Record { lsn, end_lsn, timeline, previous, xid, rmgr: header.rmgr, info: header.info, body }
    }
}

/// Checks that a page goes on with the record that was begun (`XLogReadRecord`).
fn check_continuation(record: &Assembly, header: &PageHeader) -> Result<(), EndReason> {
    if !header.continues_record() {
        return Err(EndReason::MissingContinuation);
    }
    let expected = record.missing() as u32;
    if header.remaining != expected {
        return Err(EndReason::BadContinuation { expected, found: header.remaining });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::rmgr::{RowChange, Rows};
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
        ends(
            &[(page + 8, &[0; 8])],
            1,
            EndReason::WrongPageAddress { expected: START.plus(PAGE_BYTES), found: Lsn(0) },
        );
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
}
