//! Records: their header, their checksum, where their main data lies, and putting together those that cross pages.

use super::crc::Crc;
use super::cursor::Cursor;
use super::end::EndReason;
use super::layout::Layout;
use super::rmgr::{self, Body, RelFileLocator};
use crate::core::{Lsn, TimelineId, Xid};

/// One record of WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub lsn: Lsn,
    /// Just behind it, rounded up to eight bytes, as the server's `EndRecPtr`: the start of the next page where the
    /// record fills its page, and of the next segment for a [`Body::Switch`].
    pub end_lsn: Lsn,
    /// Of the page that it starts on. Up to the end of the page on which a timeline began, that is the older one.
    pub timeline: TimelineId,
    /// Where the record before it starts, by its own word; `None` for the very first.
    pub previous: Option<Lsn>,
    /// Who wrote it; `None` for what belongs to no transaction.
    pub xid: Option<Xid>,
    /// The resource manager that it belongs to (`src/include/access/rmgrlist.h`).
    pub rmgr: u8,
    /// What it is to its resource manager, with flags.
    pub info: u8,
    /// What it says, where Walback wants to know.
    pub body: Body,
}

/// The checksum that belongs into the last four of the first 24 bytes of a whole record: CRC-32C over what follows its
/// header, then over the header before the checksum. `None` where `record` ends within the header.
#[must_use]
pub fn checksum(record: &[u8]) -> Option<u32> {
    let (header, behind) = record.split_first_chunk::<{ Header::BYTES }>()?;
    let mut crc = Crc::NEW;
    crc.push(behind);
    crc.push(header.get(..Header::CHECKED_BYTES)?);
    Some(crc.value())
}

impl Record {
    /// Nothing but a timeline is known of it.
    pub(super) fn blank(timeline: TimelineId) -> Record {
        Record {
            lsn: Lsn::INVALID,
            end_lsn: Lsn::INVALID,
            timeline,
            previous: None,
            xid: None,
            rmgr: 0,
            info: 0,
            body: Body::Other,
        }
    }
}

/// The header that each record begins with (`XLogRecord`, `src/include/access/xlogrecord.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Bytes of the whole record, this header included.
    pub(super) total: u32,
    pub(super) xid: u32,
    /// Where the record before starts.
    pub(super) previous: Lsn,
    pub(super) info: u8,
    pub(super) rmgr: u8,
    pub(super) crc: u32,
}

impl Header {
    pub(super) const BYTES: usize = 24;
    /// How much of the header the checksum covers: all before itself.
    pub(super) const CHECKED_BYTES: usize = 20;

    /// `None` where `bytes` end within the header.
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        // Asked once, and not at every field, whether there is enough.
        let mut cursor = Cursor(bytes.first_chunk::<{ Header::BYTES }>()?);
        let (total, xid, previous) = (cursor.u32()?, cursor.u32()?, cursor.lsn()?);
        let (info, rmgr, _padding, crc) = (cursor.u8()?, cursor.u8()?, cursor.u16()?, cursor.u32()?);
        Some(Header { total, xid, previous, info, rmgr, crc })
    }

    /// What `ValidXLogRecordHeader` (`src/backend/access/transam/xlogreader.c`) checks of the record at `lsn`.
    #[inline(always)]
    pub(super) fn check(&self, layout: &Layout, lsn: Lsn, previous: Previous) -> Result<(), EndReason> {
        check_length(self.total)?;
        if self.rmgr > rmgr::LAST_BUILTIN && !(layout.custom_rmgrs && self.rmgr >= rmgr::FIRST_CUSTOM) {
            return Err(EndReason::UnknownRmgr(self.rmgr));
        }
        let follows = match previous {
            Previous::At(previous) => self.previous == previous,
            Previous::From(earliest) => earliest <= self.previous && self.previous < lsn,
        };
        if follows { Ok(()) } else { Err(EndReason::BadPrevLink { expected: previous.known(), found: self.previous }) }
    }
}

/// What is known of where the record before one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Previous {
    /// Exactly there.
    At(Lsn),
    /// There or later, but before the record: of the first record of a stretch no more is known.
    From(Lsn),
}

impl Previous {
    /// Nothing is known but that it is earlier.
    pub(super) const UNKNOWN: Previous = Previous::From(Lsn(0));

    fn known(self) -> Option<Lsn> {
        if let Previous::At(lsn) = self { Some(lsn) } else { None }
    }
}

/// The most bytes that a record can have (`XLogRecordMaxSize`, `src/include/access/xlogrecord.h`).
const MAX_BYTES: u32 = 1020 << 20;

/// The length alone is looked at first: a header may be cut by a page's end behind it.
#[inline(always)]
pub(super) fn check_length(total: u32) -> Result<(), EndReason> {
    match total {
        0 => Err(EndReason::Zeroed),
        total if (total as usize) < Header::BYTES || total > MAX_BYTES => Err(EndReason::BadLength(total)),
        _ => Ok(()),
    }
}

/// Reads the body of the whole record in `bytes`, whose checksum is known to be right.
pub(super) fn read_sound(layout: &Layout, header: &Header, bytes: &[u8]) -> Result<Body, EndReason> {
    if rmgr::wanted_bytes(layout, header).is_none() {
        return read_body(layout, header, &Fragments::default(), &[]);
    }
    let malformed = EndReason::Malformed { rmgr: header.rmgr, info: header.info };
    let (fragments, main) = Fragments::and_main_data(layout, bytes).ok_or(malformed)?;
    read_body(layout, header, &fragments, main)
}

fn read_body(layout: &Layout, header: &Header, fragments: &Fragments, main: &[u8]) -> Result<Body, EndReason> {
    Body::read(layout, header, fragments, main).ok_or(EndReason::Malformed { rmgr: header.rmgr, info: header.info })
}

/// The most bytes that fragment headers can take: 33 block references with an image and a locator each, an origin, a
/// top-level transaction, and the main data's header come to 904.
const FRAGMENT_HEADERS_BYTES: usize = 1024;

/// Fragment ids (`src/include/access/xlogrecord.h`): up to this one they number block references.
const LAST_BLOCK_ID: u8 = 32;
const TOP_LEVEL_XID: u8 = 252;
const ORIGIN: u8 = 253;
const MAIN_DATA_LONG: u8 = 254;
pub(super) const MAIN_DATA_SHORT: u8 = 255;

/// Flags of a block reference.
pub(super) const HAS_IMAGE: u8 = 0x10;
pub(super) const SAME_RELATION: u8 = 0x80;
/// Flag of an image: zeros were left out in the middle of the page.
const HAS_HOLE: u8 = 0x01;

/// What the fragment headers of a record say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fragments {
    /// How many bytes at the end of the record are its main data.
    pub(super) main_data: usize,
    /// Block references.
    pub(super) blocks: u8,
    /// The relation of the first block reference.
    pub(super) relation: Option<RelFileLocator>,
    /// The replication origin's number.
    pub(super) origin: Option<u16>,
}

impl Fragments {
    /// One block reference without an image, and the header of short main data.
    pub(super) const ONE_BLOCK_BYTES: usize = 22;

    /// Of the whole record in `bytes`, with its main data. All of it is inlined, so that it stays in registers: most
    /// records come this way.
    #[inline(always)]
    pub(super) fn and_main_data<'a>(layout: &Layout, bytes: &'a [u8]) -> Option<(Fragments, &'a [u8])> {
        if let Some(found) = Fragments::of_one_block(bytes) {
            return Some(found);
        }
        let behind_header = bytes.get(Header::BYTES..)?;
        let fragments = Fragments::read(layout, behind_header, behind_header.len())?;
        let start = behind_header.len().checked_sub(fragments.main_data)?;
        Some((fragments, behind_header.get(start..)?))
    }

    /// The same for what most records about rows are: one block reference without an image, then short main data.
    /// `None` for all others.
    #[inline(always)]
    fn of_one_block(bytes: &[u8]) -> Option<(Fragments, &[u8])> {
        let (front, rest) = bytes.get(Header::BYTES..)?.split_first_chunk::<{ Fragments::ONE_BLOCK_BYTES }>()?;
        let mut cursor = Cursor(front);
        let (id, flags, data) = (cursor.u8()?, cursor.u8()?, usize::from(cursor.u16()?));
        let relation = RelFileLocator::read(&mut cursor)?;
        let (_block_number, last, main_data) = (cursor.u32()?, cursor.u8()?, usize::from(cursor.u8()?));
        let plain = id <= LAST_BLOCK_ID && flags & (HAS_IMAGE | SAME_RELATION) == 0 && last == MAIN_DATA_SHORT;
        if !plain || rest.len() != data + main_data {
            return None;
        }
        Some((Fragments { main_data, blocks: 1, relation: Some(relation), origin: None }, rest.get(data..)?))
    }

    /// From `front`, which is what follows the record's header, or the first [`FRAGMENT_HEADERS_BYTES`] of it.
    /// `after_header` is the length of all of it. `None` where the headers do not add up (`DecodeXLogRecord`,
    /// `src/backend/access/transam/xlogreader.c`).
    #[inline(always)]
    fn read(layout: &Layout, front: &[u8], after_header: usize) -> Option<Fragments> {
        let mut cursor = Cursor(front);
        let mut fragments = Fragments::default();
        let mut announced = 0usize;
        let mut next_block = 0;
        loop {
            let rest = after_header.checked_sub(front.len() - cursor.0.len())?;
            if rest <= announced {
                return (rest == announced).then_some(fragments);
            }
            match cursor.u8()? {
                id @ ..=LAST_BLOCK_ID if id >= next_block => {
                    next_block = id + 1;
                    let (bytes, relation) = read_block_reference(layout, &mut cursor)?;
                    announced = announced.checked_add(bytes)?;
                    if fragments.blocks == 0 {
                        fragments.relation = relation;
                    }
                    fragments.blocks += 1;
                }
                ORIGIN => fragments.origin = Some(cursor.u16()?),
                TOP_LEVEL_XID => {
                    cursor.bytes(4)?;
                }
                id @ (MAIN_DATA_SHORT | MAIN_DATA_LONG) => {
                    let main = if id == MAIN_DATA_SHORT { cursor.u8()?.into() } else { cursor.u32()? as usize };
                    fragments.main_data = main;
                    let rest = after_header.checked_sub(front.len() - cursor.0.len())?;
                    return (rest == announced.checked_add(main)?).then_some(fragments);
                }
                _ => return None,
            }
        }
    }
}

/// Goes over a block reference, and gives the bytes of image and data that it announces, and its relation if that is
/// not the one before.
#[inline(always)]
fn read_block_reference(layout: &Layout, cursor: &mut Cursor<'_>) -> Option<(usize, Option<RelFileLocator>)> {
    let flags = cursor.u8()?;
    let mut announced = usize::from(cursor.u16()?);
    if flags & HAS_IMAGE != 0 {
        announced += usize::from(cursor.u16()?);
        let _hole_offset = cursor.u16()?;
        let image = cursor.u8()?;
        if image & HAS_HOLE != 0 && image & layout.image_compressed != 0 {
            let _hole_length = cursor.u16()?;
        }
    }
    let relation = if flags & SAME_RELATION == 0 { Some(RelFileLocator::read(cursor)?) } else { None };
    let _block_number = cursor.u32()?;
    Some((announced, relation))
}

/// A record that goes on behind the end of its page, as far as it has come in.
///
/// Of its bytes only those are kept that its body is read from, so that a record of a gigabyte that is only counted
/// costs nothing, and a length that is a lie costs what really came in.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) lsn: Lsn,
    pub(super) timeline: TimelineId,
    /// Bytes of the record by its own word.
    pub(super) total: usize,
    /// How many of them have come in.
    pub(super) received: usize,
    head: [u8; Header::BYTES],
    /// Over what came in behind the header.
    crc: Crc,
    keep: Keep,
    /// What is kept.
    kept: Vec<u8>,
}

/// Which bytes of an [`Assembly`] are kept.
#[derive(Debug)]
enum Keep {
    /// The header is not complete: this is not known yet.
    Undecided,
    /// None.
    Nothing,
    /// What follows the header: the fragment headers among it will say where the main data begins.
    Front,
    /// The bytes from `start` up to `end`, counted from the start of the record.
    Main { start: usize, end: usize, fragments: Fragments },
    /// None: the fragment headers do not add up. Most likely the checksum will be wrong as well, and says it better.
    Malformed,
}

impl Assembly {
    /// A record of `total` bytes at `lsn`, of which nothing has come in. What is kept of it, is kept in `memory`.
    pub(super) fn new(lsn: Lsn, timeline: TimelineId, total: u32, mut memory: Vec<u8>) -> Assembly {
        memory.clear();
        Assembly {
            lsn,
            timeline,
            total: total as usize,
            received: 0,
            head: [0; Header::BYTES],
            crc: Crc::NEW,
            keep: Keep::Undecided,
            kept: memory,
        }
    }

    /// Its memory, for the next one: unless so much was kept that it had better be given back.
    pub(super) fn take_memory(&mut self) -> Vec<u8> {
        let memory = std::mem::take(&mut self.kept);
        if memory.capacity() <= 64 << 10 { memory } else { Vec::new() }
    }

    /// Bytes that are still to come.
    pub(super) fn missing(&self) -> usize {
        self.total.saturating_sub(self.received)
    }

    /// Its header, once that is complete.
    fn header(&self) -> Option<Header> {
        if self.received < Header::BYTES { None } else { Header::parse(&self.head) }
    }

    /// Takes the next bytes, at most [`Assembly::missing`].
    pub(super) fn push(&mut self, layout: &Layout, previous: Previous, bytes: &[u8]) -> Result<(), EndReason> {
        let head = bytes.len().min(Header::BYTES.saturating_sub(self.received));
        let (head, rest) = bytes.split_at(head);
        if !head.is_empty() {
            if let Some(room) = self.head.get_mut(self.received..self.received + head.len()) {
                room.copy_from_slice(head);
            }
            self.received += head.len();
            if let Some(header) = self.header() {
                header.check(layout, self.lsn, previous)?;
                let wanted = rmgr::wanted_bytes(layout, &header);
                self.keep = if wanted.is_some() { Keep::Front } else { Keep::Nothing };
            }
        }
        self.crc.push(rest);
        self.keep(layout, rest);
        self.received += rest.len();
        Ok(())
    }

    /// Keeps what is wanted of `bytes`, which begin at `self.received`.
    fn keep(&mut self, layout: &Layout, bytes: &[u8]) {
        let mut at = self.received;
        let mut bytes = bytes;
        if matches!(self.keep, Keep::Front) {
            let whole = FRAGMENT_HEADERS_BYTES.min(self.total.saturating_sub(Header::BYTES));
            let more = bytes.len().min(whole.saturating_sub(self.kept.len()));
            let (taken, rest) = bytes.split_at(more);
            self.kept.extend_from_slice(taken);
            (at, bytes) = (at + more, rest);
            if self.kept.len() == whole {
                self.keep = self.find_main_data(layout).unwrap_or(Keep::Malformed);
                self.keep_front_of_main_data();
            }
        }
        if let Keep::Main { start, end, .. } = self.keep {
            let from = start.saturating_sub(at).min(bytes.len());
            let to = end.saturating_sub(at).min(bytes.len());
            self.kept.extend_from_slice(bytes.get(from..to).unwrap_or_default());
        }
    }

    fn find_main_data(&self, layout: &Layout) -> Option<Keep> {
        let fragments = Fragments::read(layout, &self.kept, self.total.checked_sub(Header::BYTES)?)?;
        let start = self.total.checked_sub(fragments.main_data)?;
        let end = start + fragments.main_data.min(rmgr::wanted_bytes(layout, &self.header()?)?);
        Some(Keep::Main { start, end, fragments })
    }

    /// Leaves of the front that was kept only the wanted main data.
    fn keep_front_of_main_data(&mut self) {
        let (start, end) = if let Keep::Main { start, end, .. } = self.keep { (start, end) } else { (0, 0) };
        self.kept.truncate(end.saturating_sub(Header::BYTES));
        self.kept.drain(..start.saturating_sub(Header::BYTES).min(self.kept.len()));
    }

    /// Checks the complete record and reads its body.
    pub(super) fn finish(&self, layout: &Layout) -> Result<(Header, Body), EndReason> {
        let header = self.header().ok_or(EndReason::BadLength(self.total as u32))?;
        let mut crc = self.crc;
        crc.push(self.head.get(..Header::CHECKED_BYTES).unwrap_or_default());
        if crc.value() != header.crc {
            return Err(EndReason::BadChecksum);
        }
        let (fragments, main) = match self.keep {
            Keep::Main { fragments, .. } => (fragments, self.kept.as_slice()),
            Keep::Malformed => return Err(EndReason::Malformed { rmgr: header.rmgr, info: header.info }),
            Keep::Undecided | Keep::Front | Keep::Nothing => (Fragments::default(), [].as_slice()),
        };
        Ok((header, read_body(layout, &header, &fragments, main)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::writer::{main_data, record, with_blocks};
    use proptest::prelude::*;

    fn v(major: u16) -> &'static Layout {
        Layout::all().iter().find(|layout| layout.major.0 == major).unwrap()
    }

    fn length(major: u16, fragments: &[u8]) -> Option<usize> {
        Fragments::read(v(major), fragments, fragments.len()).map(|fragments| fragments.main_data)
    }

    #[test]
    fn main_data_is_found_behind_every_kind_of_fragment() {
        assert_eq!(length(15, &[]), Some(0));
        assert_eq!(length(15, &main_data(&[1; 255])), Some(255));
        assert_eq!(length(15, &main_data(&[1; 256])), Some(256));
        assert_eq!(length(15, &with_blocks(33, 3, &[1; 300])), Some(300));
        assert_eq!(length(15, &with_blocks(2, 3, &[])), Some(0), "no main data");
        let origin_and_top_level = [&[253, 1, 0, 252, 5, 0, 0, 0][..], &main_data(&[1; 7])].concat();
        assert_eq!(length(15, &origin_and_top_level), Some(7));
    }

    /// The bit that says "compressed" in 13 and 14 says "apply" from 15 on, and a compressed image alone has the
    /// length of its hole.
    #[test]
    fn an_image_is_as_long_as_its_version_says() {
        let image = |info: u8, hole: &[u8]| {
            let header = [&[0, 0x10, 0, 0, 4, 0, 100, 0, info][..], hole, &[7; 16], &[255, 5]].concat();
            [header, vec![0xAB; 4], vec![1; 5]].concat()
        };
        let (hole_kept, hole_left_out) = ([50, 0], []);
        for major in 13..=14 {
            assert_eq!(length(major, &image(0x01 | 0x02, &hole_kept)), Some(5), "{major} pglz");
            assert_eq!(length(major, &image(0x01 | 0x04, &hole_left_out)), Some(5), "{major} apply");
        }
        for major in 15..=18 {
            for compressed in [0x04, 0x08, 0x10] {
                assert_eq!(length(major, &image(0x01 | compressed, &hole_kept)), Some(5), "{major} {compressed:X}");
                assert_eq!(length(major, &image(compressed, &hole_left_out)), Some(5), "{major}, no hole");
            }
            assert_eq!(length(major, &image(0x01 | 0x02, &hole_left_out)), Some(5), "{major} apply");
        }
    }

    #[test]
    fn headers_that_do_not_add_up_are_refused() {
        for bad in [
            &[255, 2, 0][..],
            &[255, 0, 0],
            &[254, 255, 255, 255, 255, 0],
            &[40, 0, 0, 0],
            &[253, 1],
            &[255],
            &[0, 0x20, 1],
            &[&with_blocks(2, 0, &[])[..], &[0, 0x80, 0, 0, 0, 0, 0, 0]].concat(),
        ] {
            assert_eq!(length(15, bad), None, "{bad:?}");
        }
    }

    /// What the body is read from, and no more, is kept of a record that comes in pieces.
    #[test]
    fn a_record_in_pieces_keeps_only_what_is_wanted() {
        let point = [&1i64.to_le_bytes()[..], &[b'x'; 64]].concat();
        let wanted = record(Lsn(8), 0, 0x70, 0, &with_blocks(20, 5000, &point));
        let other = record(Lsn(8), 10, 0x00, 7, &with_blocks(20, 5000, &point));
        let prepared = record(Lsn(8), 1, 0x10, 7, &with_blocks(0, 0, &[0; 30_000]));
        for (bytes, most) in
            [(wanted, FRAGMENT_HEADERS_BYTES), (other, FRAGMENT_HEADERS_BYTES), (prepared, FRAGMENT_HEADERS_BYTES)]
        {
            let whole = read_sound(v(15), &Header::parse(&bytes).unwrap(), &bytes).unwrap();
            let mut assembly = Assembly::new(Lsn(16), TimelineId(1), bytes.len() as u32, Vec::new());
            for piece in bytes.chunks(100) {
                assembly.push(v(15), Previous::At(Lsn(8)), piece).unwrap();
                assert!(assembly.kept.len() <= most, "{} bytes were kept", assembly.kept.len());
            }
            assert_eq!(assembly.finish(v(15)).unwrap().1, whole);
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_alike_whole_and_in_pieces(
            rmgr in prop_oneof![Just(0u8), Just(1), Just(4), Just(10)],
            info: u8,
            blocks in 0u8..34,
            payload in 0u16..200,
            main in proptest::collection::vec(any::<u8>(), 0..400),
            piece in 1usize..400,
            major in 13u16..=18,
        ) {
            let bytes = record(Lsn(8), rmgr, info, 7, &with_blocks(blocks, payload, &main));
            let header = Header::parse(&bytes).unwrap();
            let mut assembly = Assembly::new(Lsn(16), TimelineId(1), header.total, Vec::new());
            for piece in bytes.chunks(piece) {
                prop_assert_eq!(assembly.push(v(major), Previous::UNKNOWN, piece), Ok(()));
            }
            let whole = read_sound(v(major), &header, &bytes);
            prop_assert_eq!(assembly.finish(v(major)).map(|(_, body)| body), whole);
        }

        #[test]
        fn no_fragments_make_it_panic(fragments: Vec<u8>, after_header: usize, major in 13u16..=18) {
            let _ = Fragments::read(v(major), &fragments, after_header);
        }
    }
}
