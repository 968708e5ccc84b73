//! The walk over pages and records, as `XLogReadRecord` goes it (`src/backend/access/transam/xlogreader.c`).

use std::mem;
use std::ops::ControlFlow;

use super::crc;
use super::decoder::{Decoded, Reached};
use super::end::{EndOfWal, EndReason, Gap};
use super::layout::Layout;
use super::page::{PAGE_BYTES, PageHeader};
use super::record::{self, Assembly, Fragments, Header, Previous, Record};
use super::rmgr::{self, Body, Common, Outcome, RelFileLocator, RowChange, Rows};
use super::run::{Each, Front, Went};
use crate::core::{Lsn, SegmentSize, TimelineId, Timestamp, Xid};

/// Bytes in hand, and where they belong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) base: Lsn,
    pub(super) bytes: &'a [u8],
}

impl<'a> Window<'a> {
    /// What is in hand from `at` on.
    fn behind(self, at: Lsn) -> &'a [u8] {
        let from = usize::try_from(at.bytes_since(self.base)).unwrap_or(usize::MAX);
        self.bytes.get(from..).unwrap_or_default()
    }

    /// What is in hand from `at` to the end of its page.
    fn rest_of_page(self, at: Lsn) -> &'a [u8] {
        let rest = self.behind(at);
        rest.get(..room_on_page(at)).unwrap_or(rest)
    }
}

/// Bytes from `at` to the end of its page.
fn room_on_page(at: Lsn) -> usize {
    (PAGE_BYTES - at.0 % PAGE_BYTES) as usize
}

/// Where the walk is, and what it has learnt.
#[derive(Debug)]
pub(super) struct Walk {
    size: SegmentSize,
    /// The position of the next byte to be looked at. May be ahead of the bytes in hand: what lies between is skipped.
    pub(super) at: Lsn,
    state: State,
    /// What is known from the pages so far; nothing before the first.
    stretch: Option<Stretch>,
    /// Just behind the last whole record: where the server's replay would end.
    replayed: Lsn,
    /// Where the last whole record starts.
    previous: Previous,
    /// Where the record starts that was given up for the page in hand.
    overwritten: Option<Lsn>,
    end: Option<Stop>,
    /// The search for where it can go on.
    search: Option<Search>,
    /// The record that a search found, until it is asked for.
    resumed: Option<Record>,
    /// Memory for the next record that crosses pages.
    spare: Vec<u8>,
}

/// What has to be alike on all pages of a stretch, or must not go back.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    layout: &'static Layout,
    timeline: TimelineId,
    system_identifier: Option<u64>,
    /// The first page of this timeline, and the timeline before it (0 where there was none).
    since: (Lsn, TimelineId),
}

/// What lies at [`Walk::at`]. At the start of a page that is always its header.
#[derive(Debug)]
pub(super) enum State {
    /// Some page: the first record that starts there or later is looked for.
    Seeking,
    /// The page that holds this record's start.
    Starting(Lsn),
    /// The start of a record.
    Between,
    /// The rest of a record.
    Inside(Assembly),
}

/// What is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong {
    pub(super) reason: EndReason,
    /// What was found to be wrong: the start of the record, or of the page.
    pub(super) found: Lsn,
    /// The end of that record, by its own word: another may start there.
    pub(super) behind: Option<Lsn>,
}

/// Where the walk stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub(super) end: EndOfWal,
    /// See [`Wrong::found`].
    pub(super) found: Lsn,
    behind: Option<Lsn>,
}

/// A search for the next record that can be trusted.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// Where the walk had stopped.
    stop: Stop,
    /// Where the last record starts that was read: the one behind the gap cannot follow one that is older. Pages that
    /// were only half written have old records at their end.
    floor: Lsn,
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

impl Walk {
    pub(super) fn new(at: Lsn, state: State, replayed: Lsn, size: SegmentSize) -> Walk {
        Walk {
            size,
            at,
            state,
            stretch: None,
            replayed,
            previous: Previous::UNKNOWN,
            overwritten: None,
            end: None,
            search: None,
            resumed: None,
            spare: Vec::new(),
        }
    }

    /// Hands the records of `window` to `each`. Where they lie whole on a page, that goes over many at once, see [`Front`].
    pub(super) fn read<E: Each>(&mut self, window: Window<'_>, each: &mut E) -> Reached {
        let mut forms = Forms::new();
        loop {
            if self.read_along(window, &mut forms, each).is_break() {
                return Reached::Enough;
            }
            match self.advance(window) {
                Some(Decoded::Record(record)) if each.record(&record).is_break() => return Reached::Enough,
                None | Some(Decoded::Record(_)) => {}
                Some(Decoded::Hungry) => return Reached::Hungry,
                Some(Decoded::Resumed(gap)) => return Reached::Resumed(gap),
                Some(Decoded::End(end)) => return Reached::End(end),
            }
        }
    }

    /// Goes one step. `None` where nothing came of it yet.
    pub(super) fn advance(&mut self, window: Window<'_>) -> Option<Decoded> {
        if let Some(stop) = self.end {
            return Some(Decoded::End(stop.end));
        }
        if let Some(record) = self.resumed.take() {
            return Some(Decoded::Record(record));
        }
        match self.step(window) {
            Ok(Step::On) => None,
            Ok(Step::Hungry) => Some(Decoded::Hungry),
            Ok(Step::Record(record)) => Some(match self.search.take() {
                None => Decoded::Record(record),
                Some(Search { stop, .. }) => {
                    let gap = Gap { stopped: stop.end, found: stop.found, resumed: record.lsn };
                    self.resumed = Some(record);
                    Decoded::Resumed(gap)
                }
            }),
            Err(wrong) if self.search.is_some() => {
                self.search_on(wrong.reason);
                None
            }
            Err(wrong) => Some(Decoded::End(self.stop(wrong))),
        }
    }

    /// Says that there is no more behind `wants`, the end of what was in hand.
    pub(super) fn finish(&mut self, wants: Lsn) -> EndOfWal {
        if let Some(Search { stop, .. }) = self.search {
            return self.end.get_or_insert(stop).end;
        }
        let begun = matches!(self.state, State::Inside(_)) || wants > self.at;
        let reason = if begun { EndReason::CutOff } else { EndReason::NoMoreBytes };
        self.stop(Wrong { reason, found: self.replayed, behind: None })
    }

    /// Ends WAL, unless it has ended already.
    pub(super) fn stop(&mut self, wrong: Wrong) -> EndOfWal {
        let Wrong { reason, found, behind } = wrong;
        self.end.get_or_insert(Stop { end: EndOfWal { at: self.replayed, reason }, found, behind }).end
    }

    /// Where WAL ended, if it has.
    pub(super) fn end(&self) -> Option<EndOfWal> {
        self.end.map(|stop| stop.end)
    }

    /// Whether a record has begun that is not complete.
    pub(super) fn is_inside_record(&self) -> bool {
        self.end.is_none() && matches!(self.state, State::Inside(_))
    }

    /// Where the walk stopped, or had stopped, if it searches.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.end.or(self.search.map(|search| search.stop))
    }

    /// Forgets the end and looks for the next record that can be trusted, among what comes from `base` on.
    pub(super) fn resume(&mut self, base: Lsn) {
        let Some(stop) = self.end.take() else { return };
        let (Previous::At(floor) | Previous::From(floor)) = self.previous;
        // What was found by another search and not asked for is lost with the end: it comes behind it.
        self.search = Some(Search { stop, floor });
        self.overwritten = None;
        match stop.behind.filter(|behind| *behind >= base) {
            // Its length seems to be right: the one behind it is found by it, and must name it.
            Some(behind) => {
                (self.at, self.state, self.previous) = (behind, State::Between, Previous::At(stop.found));
            }
            None => {
                // What was asked for is no record's start: nothing before it was asked for either.
                let from = match self.state {
                    State::Starting(start) if start > self.at.plus(PageHeader::SHORT_BYTES) => start,
                    _ => self.at,
                };
                self.seek(from.max(base), floor);
            }
        }
    }

    /// After a failure within a search: tries the page that failed anew, or goes to the next one if that was done.
    fn search_on(&mut self, reason: EndReason) {
        let Some(Search { floor, .. }) = self.search else { return };
        let is_page = self.at.0.is_multiple_of(PAGE_BYTES);
        match (&self.state, reason) {
            // Of such a segment only the first page says so.
            (State::Seeking, EndReason::WrongSystem { .. } | EndReason::WrongSegmentSize(_)) => {
                self.seek(Lsn(self.at.plus(1).0.next_multiple_of(self.size.bytes())), floor);
            }
            (State::Seeking, _) if is_page => self.seek(self.at.plus(PAGE_BYTES), floor),
            _ => self.seek(self.at, floor),
        }
    }

    /// Looks for the first record that starts on the page that starts at `at` or behind it, or later.
    fn seek(&mut self, at: Lsn, floor: Lsn) {
        self.at = Lsn(at.0.next_multiple_of(PAGE_BYTES));
        self.state = State::Seeking;
        self.previous = Previous::From(floor);
    }

    fn step(&mut self, window: Window<'_>) -> Result<Step, Wrong> {
        if self.at.0.is_multiple_of(PAGE_BYTES) {
            let page = self.at;
            return self.enter_page(window).map_err(|reason| Wrong { reason, found: page, behind: None });
        }
        match self.state {
            State::Between => self.read_record(window),
            State::Inside(_) => self.read_on(window),
            State::Seeking | State::Starting(_) => {
                Err(Wrong { reason: EndReason::NotARecordStart, found: self.at, behind: None })
            }
        }
    }

    fn enter_page(&mut self, window: Window<'_>) -> Result<Step, EndReason> {
        let Some(header) = PageHeader::parse(window.rest_of_page(self.at)) else { return Ok(Step::Hungry) };
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
            State::Inside(record) if header.overwrites_record() => {
                if header.continues_record() {
                    return Err(EndReason::UnexpectedContinuation);
                }
                self.overwritten = Some(record.lsn);
                self.state = State::Between;
            }
            State::Inside(record) => check_continuation(record, &header)?,
        }
        self.at = first;
        Ok(Step::On)
    }

    /// Checks the page at `at` against those before it, as `XLogReaderValidatePageHeader` does, and takes over what it
    /// says.
    fn check_page(&mut self, header: &PageHeader) -> Result<(), EndReason> {
        if header.is_zeroed() {
            let begun = matches!(self.state, State::Inside(_));
            return Err(if begun { EndReason::MissingContinuation } else { EndReason::Zeroed });
        }
        let layout = match self.stretch {
            Some(Stretch { layout, .. }) if layout.magic == header.magic => layout,
            Some(Stretch { layout, .. }) => {
                return Err(self.contradict(EndReason::BadMagic { expected: layout.magic, found: header.magic }));
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
        let timeline = header.timeline;
        let since = match self.stretch {
            None => (self.at, TimelineId(0)),
            Some(Stretch { timeline: from, .. }) if timeline < from => {
                return Err(self.contradict(EndReason::TimelineWentBack { from, to: timeline }));
            }
            Some(Stretch { timeline: from, .. }) if timeline > from => (self.at, from),
            Some(Stretch { since, .. }) => since,
        };
        self.stretch = Some(Stretch { layout, timeline, system_identifier, since });
        Ok(())
    }

    /// The page at `at` does not agree with those before it. Where that is one page alone, it is as likely to be the
    /// damaged one: what was believed of it is taken back, for a search.
    fn contradict(&mut self, reason: EndReason) -> EndReason {
        if let Some(stretch) = &mut self.stretch {
            let (page, before) = stretch.since;
            match reason {
                _ if page.plus(PAGE_BYTES) != self.at => {}
                EndReason::TimelineWentBack { .. } => stretch.timeline = before,
                _ if before == TimelineId(0) => self.stretch = None,
                _ => {}
            }
        }
        reason
    }

    /// Reads the record that starts at `at`, or its beginning if it goes on behind the page.
    fn read_record(&mut self, window: Window<'_>) -> Result<Step, Wrong> {
        let at = self.at;
        let wrong = |reason| Wrong { reason, found: at, behind: None };
        let Some(Stretch { layout, timeline, .. }) = self.stretch else {
            return Err(wrong(EndReason::NotARecordStart));
        };
        let bytes = window.rest_of_page(at);
        let Some(total) = bytes.first_chunk().map(|total| u32::from_le_bytes(*total)) else { return Ok(Step::Hungry) };
        record::check_length(total).map_err(wrong)?;
        if total as usize > room_on_page(at) {
            self.state = State::Inside(Assembly::new(at, timeline, total, mem::take(&mut self.spare)));
            return Ok(Step::On);
        }
        let end = at.plus(u64::from(total).next_multiple_of(8));
        let wrong = |reason| Wrong { reason, found: at, behind: Some(end) };
        let Some(header) = Header::parse(bytes) else { return Ok(Step::Hungry) };
        header.check(layout, at, self.previous).map_err(wrong)?;
        let Some(bytes) = bytes.get(..total as usize) else { return Ok(Step::Hungry) };
        if record::checksum(bytes) != Some(header.crc) {
            return Err(wrong(EndReason::BadChecksum));
        }
        let body = record::read_sound(layout, &header, bytes).map_err(wrong)?;
        let mut record = Record { lsn: at, end_lsn: end, body, ..Record::blank(timeline) };
        self.complete(&mut record, &header).map_err(wrong)?;
        Ok(Step::Record(record))
    }

    /// Reads on in a record that began on an earlier page, or begins on this one and goes on behind it.
    fn read_on(&mut self, window: Window<'_>) -> Result<Step, Wrong> {
        let State::Inside(record) = &mut self.state else {
            return Err(Wrong { reason: EndReason::NotARecordStart, found: self.at, behind: None });
        };
        let (lsn, timeline) = (record.lsn, record.timeline);
        let wrong = |reason| Wrong { reason, found: lsn, behind: None };
        let Some(Stretch { layout, .. }) = self.stretch else { return Err(wrong(EndReason::NotARecordStart)) };
        let bytes = window.rest_of_page(self.at);
        let bytes = bytes.get(..record.missing()).unwrap_or(bytes);
        self.at = self.at.plus(bytes.len() as u64);
        record.push(layout, self.previous, bytes).map_err(wrong)?;
        if record.missing() > 0 {
            return Ok(if bytes.is_empty() { Step::Hungry } else { Step::On });
        }
        let end = Lsn(self.at.0.next_multiple_of(8));
        let wrong = |reason| Wrong { reason, found: lsn, behind: Some(end) };
        let read = record.finish(layout);
        self.spare = record.take_memory();
        self.state = State::Between;
        let (header, body) = read.map_err(wrong)?;
        let mut record = Record { lsn, end_lsn: end, body, ..Record::blank(timeline) };
        self.complete(&mut record, &header).map_err(wrong)?;
        Ok(Step::Record(record))
    }

    /// Reads records from `at` on as long as they lie whole on its page, are in hand and are sound: whatever is wrong is
    /// left to [`Walk::step`] to find.
    fn read_along<E: Each>(&mut self, window: Window<'_>, forms: &mut Forms, each: &mut E) -> ControlFlow<()> {
        let Some(Stretch { layout, timeline, .. }) = self.stretch else { return ControlFlow::Continue(()) };
        let idle = self.end.is_none() && self.search.is_none() && self.resumed.is_none();
        while idle && matches!(self.state, State::Between) && !self.at.0.is_multiple_of(PAGE_BYTES) {
            let (Previous::At(before), start) = (self.previous, self.at) else { break };
            let bytes = window.rest_of_page(start);
            let Went { end, before, flow, found } = crc::work_fast(Front { layout, bytes, start, before, each });
            if end != start {
                self.overwritten = None;
                (self.at, self.replayed, self.previous) = (end, end, Previous::At(before));
            }
            flow?;
            if !found {
                break;
            }
            let Some(record) = self.read_found(layout, forms, window.behind(end)) else { break };
            record.timeline = timeline;
            each.record(record)?;
        }
        ControlFlow::Continue(())
    }

    /// The record at `at` that `bytes` begin with, which is whole and has the right checksum. `None` where it is not as
    /// it should be nevertheless.
    #[inline(always)]
    fn read_found<'f>(&mut self, layout: &Layout, forms: &'f mut Forms, bytes: &[u8]) -> Option<&'f mut Record> {
        let header = Header::parse(bytes)?;
        header.check(layout, self.at, self.previous).ok()?;
        let common = Common::of(&header);
        let record = forms.fill(layout, common, &header, bytes.get(..header.total as usize)?)?;
        record.lsn = self.at;
        record.end_lsn = self.at.plus(u64::from(header.total).next_multiple_of(8));
        if common == Common::No {
            self.complete(record, &header).ok()?;
        } else {
            self.take_over(record, &header);
        }
        Some(record)
    }

    /// Takes over a whole record, whose position and body are known, and completes it.
    fn complete(&mut self, record: &mut Record, header: &Header) -> Result<(), EndReason> {
        match record.body {
            Body::Switch => record.end_lsn = Lsn(record.end_lsn.0.next_multiple_of(self.size.bytes())),
            Body::OverwriteContrecord { aborted: found, .. } => {
                if let Some(expected) = self.overwritten.filter(|expected| *expected != found) {
                    return Err(EndReason::WrongOverwrite { expected, found });
                }
            }
            _ => {}
        }
        self.take_over(record, header);
        Ok(())
    }

    /// [`Walk::complete`], where the body says nothing that concerns the walk.
    #[inline(always)]
    fn take_over(&mut self, record: &mut Record, header: &Header) {
        self.overwritten = None;
        self.at = record.end_lsn;
        self.replayed = record.end_lsn;
        self.previous = Previous::At(record.lsn);
        record.previous = header.previous.valid();
        record.xid = Some(Xid(header.xid)).filter(|xid| xid.0 != 0);
        (record.rmgr, record.info) = (header.rmgr, header.info);
    }
}

/// A record of each common kind, of which only what differs is written anew: putting together a value as large as the
/// largest kind for each record, and moving it to its place, takes longer than reading it.
struct Forms {
    nothing: Record,
    rows: Record,
    commit: Record,
    any: Record,
}

impl Forms {
    fn new() -> Forms {
        let form = |body| Record { body, ..Record::blank(TimelineId(0)) };
        let (relation, change) = (RelFileLocator { tablespace: 0, database: 0, relation: 0 }, RowChange::Insert);
        Forms {
            nothing: form(Body::Other),
            rows: form(Body::Rows(Rows { relation, change, rows: 0 })),
            commit: form(Body::Commit(Outcome::plain(Timestamp::UNIX_EPOCH, Xid(0)))),
            any: form(Body::Other),
        }
    }

    /// The record in `bytes`, as far as its body goes. `None` where it is not laid out as it should.
    #[inline(always)]
    fn fill(&mut self, layout: &Layout, common: Common, header: &Header, bytes: &[u8]) -> Option<&mut Record> {
        match common {
            Common::Nothing => Some(&mut self.nothing),
            Common::Row(change) => {
                let (fragments, main) = Fragments::and_main_data(layout, bytes)?;
                let row = rmgr::read_row(change, &fragments, main);
                Some(self.fill_rows(row.map(|(relation, change)| Rows { relation, change, rows: 1 })))
            }
            _ => self.fill_rarer(layout, common, header, bytes),
        }
    }

    /// [`Forms::fill`] for the others. By itself, because choosing among few ways takes the processor less time.
    #[inline(never)]
    fn fill_rarer(&mut self, layout: &Layout, common: Common, header: &Header, bytes: &[u8]) -> Option<&mut Record> {
        match common {
            Common::Rows => {
                let (fragments, main) = Fragments::and_main_data(layout, bytes)?;
                return Some(self.fill_rows(rmgr::read_rows(header, &fragments, main)));
            }
            Common::PlainCommit => {
                let (_, main) = Fragments::and_main_data(layout, bytes)?;
                let at = rmgr::read_plain_time(main)?;
                if let Body::Commit(outcome) = &mut self.commit.body {
                    (outcome.at, outcome.xid) = (at, Xid(header.xid));
                    return Some(&mut self.commit);
                }
            }
            Common::Nothing | Common::Row(_) | Common::No => {}
        }
        self.any.body = record::read_sound(layout, header, bytes).ok()?;
        Some(&mut self.any)
    }

    #[inline(always)]
    fn fill_rows(&mut self, found: Option<Rows>) -> &mut Record {
        match (found, &mut self.rows.body) {
            (Some(found), Body::Rows(rows)) => {
                *rows = found;
                &mut self.rows
            }
            _ => &mut self.nothing,
        }
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
