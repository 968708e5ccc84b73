//! Records that are taken together, because most say nothing that Walback wants to know, or that one more row of the same
//! relation was changed. Nearly all records come this way, and nearly all of the time goes here: what stands here is
//! written for the processor. docs/performance.md says what that gains.

use std::ops::ControlFlow;

use super::Record;
use super::crc::{self, Way, Word};
use super::layout::Layout;
use super::record::{self, Fragments, Header};
use super::rmgr::{self, Common, RelFileLocator, RowChange};
use crate::core::{Lsn, Timestamp, Xid};

/// Whole records of one page that lie one behind the other, and of which only is told what they come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where the first one starts.
    pub first: Lsn,
    /// Where the first one says that the one before it starts.
    pub before_first: Option<Lsn>,
    /// Where the last one starts.
    pub last: Lsn,
    /// Just behind the last one.
    pub end: Lsn,
    /// How many there are.
    pub records: u64,
    /// The rows that some of them changed. The others say nothing that Walback wants to know.
    pub rows: Option<ManyRows>,
}

/// Rows of one relation that one transaction changed in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManyRows {
    /// The transaction; `None` where none has an id.
    pub xid: Option<Xid>,
    /// Whose rows.
    pub relation: RelFileLocator,
    /// What happened to them.
    pub change: RowChange,
    /// How many.
    pub rows: u64,
}

/// A commit of which no more is said than when it was, as most are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainCommit {
    /// Where its record starts.
    pub lsn: Lsn,
    /// Where that says that the one before it starts.
    pub before: Option<Lsn>,
    /// Just behind its record.
    pub end: Lsn,
    /// The transaction.
    pub xid: Xid,
    /// When.
    pub at: Timestamp,
}

/// Who is given records.
pub(super) trait Each {
    /// Whether runs are taken. Otherwise each record is given by itself.
    const RUNS: bool;

    fn run(&mut self, run: &Run) -> ControlFlow<()>;

    /// `None` where it is wanted as a record.
    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>>;

    fn record(&mut self, record: &Record) -> ControlFlow<()>;
}

/// Who takes each record by itself.
pub(super) struct Singly<F>(pub(super) F);

impl<F: FnMut(&Record) -> ControlFlow<()>> Each for Singly<F> {
    const RUNS: bool = false;

    fn run(&mut self, _: &Run) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn commit(&mut self, _: &PlainCommit) -> Option<ControlFlow<()>> {
        None
    }

    #[inline(always)]
    fn record(&mut self, record: &Record) -> ControlFlow<()> {
        self.0(record)
    }
}

/// What is in hand of a page from the start of a record on, and who is given the runs that begin there.
pub(super) struct Front<'a, E> {
    pub(super) layout: &'static Layout,
    pub(super) bytes: &'a [u8],
    /// Where that is.
    pub(super) start: Lsn,
    /// Where the record before it starts.
    pub(super) before: Lsn,
    pub(super) each: &'a mut E,
}

/// How far runs went.
pub(super) struct Went {
    /// Where the next record starts.
    pub(super) end: Lsn,
    /// Where the one before it starts.
    pub(super) before: Lsn,
    /// Whether who got the runs wants more.
    pub(super) flow: ControlFlow<()>,
    /// The next record follows that one, is in hand and has the right checksum, but is to be given by itself.
    pub(super) found: bool,
}

impl<E: Each> crc::Work for Front<'_, E> {
    type Output = Went;

    #[inline(always)]
    fn work<W: Way>(self) -> Went {
        let Front { layout, bytes, start: mut lsn, mut before, each } = self;
        let (mut rest, _) = bytes.as_chunks();
        let mut run = Growing::at(lsn, before);
        let found = loop {
            let Some(record) = Words::first_of(rest, before) else { break false };
            if !W::is_sound(record.words, record.total) {
                break false;
            }
            let row = match Common::of_word(record.kind_and_crc) {
                Common::Nothing if E::RUNS => None,
                Common::Row(change) if E::RUNS => match record.plain_row(change) {
                    Some(row) => Some(row),
                    None => match other_row(layout, record.words, record.total, change) {
                        Some(row) => row,
                        None => break true,
                    },
                },
                Common::PlainCommit if E::RUNS => {
                    let Some(at) = record.plain_commit() else { break true };
                    let xid = Xid((record.length_and_xid >> 32) as u32);
                    let flow = run.hand_over(each, lsn, before);
                    if flow.is_break() {
                        return Went { end: lsn, before, flow, found: false };
                    }
                    let end = lsn.plus(record.words.len() as u64 * 8);
                    let commit = PlainCommit { lsn, before: before.valid(), end, xid, at };
                    let Some(flow) = each.commit(&commit) else { break true };
                    (before, lsn) = (lsn, end);
                    if flow.is_break() {
                        return Went { end: lsn, before, flow, found: false };
                    }
                    run = Growing::at(lsn, before);
                    rest = rest.get(record.words.len()..).unwrap_or_default();
                    continue;
                }
                _ => break true,
            };
            if let Some(row) = row {
                if run.rows > 0 && run.row != row {
                    let flow = run.hand_over(each, lsn, before);
                    if flow.is_break() {
                        return Went { end: lsn, before, flow, found: false };
                    }
                }
                (run.row, run.rows) = (row, run.rows + 1);
            }
            run.records += 1;
            before = lsn;
            lsn = lsn.plus(record.words.len() as u64 * 8);
            rest = rest.get(record.words.len()..).unwrap_or_default();
        };
        let flow = run.hand_over(each, lsn, before);
        Went { end: lsn, before, flow, found }
    }
}

/// A record as words: so it takes the fewest instructions to look at.
struct Words<'a> {
    /// All of it, and the padding behind it up to a whole word.
    words: &'a [Word],
    /// What follows its header.
    behind: &'a [Word],
    total: usize,
    /// The first word of its header; the transaction's id is the upper half.
    length_and_xid: u64,
    /// The third word of its header.
    kind_and_crc: u64,
}

impl<'a> Words<'a> {
    /// The record that `rest` begins with, if all of it is there and it follows the one that starts at `before`.
    #[inline(always)]
    fn first_of(rest: &'a [Word], before: Lsn) -> Option<Words<'a>> {
        let length_and_xid = u64::from_le_bytes(*rest.first()?);
        let total = length_and_xid as u32 as usize;
        let words = rest.get(..total.div_ceil(8))?;
        let ([_, previous, kind_and_crc], behind) = words.split_first_chunk()?;
        let follows = total >= Header::BYTES && u64::from_le_bytes(*previous) == before.0;
        let kind_and_crc = u64::from_le_bytes(*kind_and_crc);
        follows.then_some(Words { words, behind, total, length_and_xid, kind_and_crc })
    }

    /// The row that the record changed so, where it is what most records about rows are: one block reference, the first,
    /// without an image, then short main data. `None` where more has to be looked at.
    #[inline(always)]
    fn plain_row(&self, change: RowChange) -> Option<Row> {
        const FRONT: usize = Header::BYTES + Fragments::ONE_BLOCK_BYTES;
        const ID_AND_FLAGS: u64 = ((record::HAS_IMAGE | record::SAME_RELATION) as u64) << 8 | 0xFF;
        let ([first, second, third], _) = self.behind.split_first_chunk()?;
        // Id and flags of the block reference, the length of its data, and its tablespace; its database and relation;
        // its block's number, and id and length of the main data.
        let (first, second, third) =
            (u64::from_le_bytes(*first), u64::from_le_bytes(*second), u64::from_le_bytes(*third));
        let (data, main) = (usize::from((first >> 16) as u16), usize::from((third >> 40) as u8));
        let is_plain = first & ID_AND_FLAGS == 0 && (third >> 32) as u8 == record::MAIN_DATA_SHORT;
        let is_shared = second as u32 == 0;
        if !is_plain || is_shared || self.total != FRONT + data + main {
            return None;
        }
        if change == RowChange::Delete {
            let flags = self.words.as_flattened().get(FRONT + data + rmgr::DELETE_BYTES - 1)?;
            if main < rmgr::DELETE_BYTES || !rmgr::is_plain_delete(*flags) {
                return None;
            }
        }
        let xid_and_tablespace = upper_half(self.length_and_xid) | first >> 32;
        Some(Row { xid_and_tablespace, database_and_relation: second, change })
    }

    /// When it committed, where the record has that and nothing else: short main data of eight bytes. `None` where more has
    /// to be looked at.
    #[inline(always)]
    fn plain_commit(&self) -> Option<Timestamp> {
        const TIME: usize = Header::BYTES + 2;
        const SHORT_OF_EIGHT: [u8; 2] = [record::MAIN_DATA_SHORT, 8];
        let main = self.words.as_flattened().get(Header::BYTES..TIME + 8)?;
        let (announced, time) = main.split_first_chunk()?;
        if self.total != TIME + 8 || *announced != SHORT_OF_EIGHT { None } else { rmgr::read_plain_time(time) }
    }
}

/// The row that any other record changed so, or none where it changed none. `None` where the record is to be given by
/// itself: where it is not laid out as it should, and where the row is of a relation that all databases share, because
/// then it matters where it was deleted.
#[inline(never)]
fn other_row(layout: &Layout, words: &[Word], total: usize, change: RowChange) -> Option<Option<Row>> {
    let (fragments, main) = Fragments::and_main_data(layout, words.as_flattened().get(..total)?)?;
    let Some((relation, change)) = rmgr::read_row(change, &fragments, main) else { return Some(None) };
    let RelFileLocator { tablespace, database, relation } = relation;
    let xid_and_tablespace = upper_half(u64::from_le_bytes(*words.first()?)) | u64::from(tablespace);
    let database_and_relation = u64::from(relation) << 32 | u64::from(database);
    (database != 0).then_some(Some(Row { xid_and_tablespace, database_and_relation, change }))
}

fn upper_half(word: u64) -> u64 {
    word >> 32 << 32
}

/// Who changed a row, of what and how, as it stands in WAL: two words are compared faster than four halves, and are
/// handed on without the processor having to wait until it can put them together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    xid_and_tablespace: u64,
    database_and_relation: u64,
    change: RowChange,
}

/// A run that may go on.
struct Growing {
    first: Lsn,
    before_first: Lsn,
    records: u64,
    rows: u64,
    /// What the rows are, if there are any.
    row: Row,
}

impl Growing {
    #[inline(always)]
    fn at(first: Lsn, before_first: Lsn) -> Growing {
        let row = Row { xid_and_tablespace: 0, database_and_relation: 0, change: RowChange::Insert };
        Growing { first, before_first, records: 0, rows: 0, row }
    }

    /// Gives the run to who wants it, if there is any yet. The next one may begin where it ends.
    #[inline(always)]
    fn hand_over<E: Each>(&mut self, each: &mut E, end: Lsn, last: Lsn) -> ControlFlow<()> {
        let Growing { first, before_first, records, rows, row } = std::mem::replace(self, Growing::at(end, last));
        if records == 0 {
            return ControlFlow::Continue(());
        }
        let Row { xid_and_tablespace, database_and_relation, change } = row;
        let xid = Some(Xid((xid_and_tablespace >> 32) as u32)).filter(|xid| xid.0 != 0);
        let relation = RelFileLocator {
            tablespace: xid_and_tablespace as u32,
            database: database_and_relation as u32,
            relation: (database_and_relation >> 32) as u32,
        };
        let rows = (rows > 0).then_some(ManyRows { xid, relation, change, rows });
        each.run(&Run { first, before_first: before_first.valid(), last, end, records, rows })
    }
}
