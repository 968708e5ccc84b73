//! Page headers: whose WAL it is, where it belongs, and what it begins with.

use super::cursor::Cursor;
use super::layout::Layout;
use crate::core::{Lsn, SegmentSize, TimelineId};

/// The bytes of a page of WAL (`XLOG_BLCKSZ`). Servers built with another size are not supported.
pub const PAGE_BYTES: u64 = 8192;

/// A page begins with the rest of a record (`XLP_FIRST_IS_CONTRECORD`, `src/include/access/xlog_internal.h`).
const CONTINUES_RECORD: u16 = 1;
/// The header is the long one of a segment's first page (`XLP_LONG_HEADER`).
const LONG: u16 = 2;
/// The page replaces the rest of a record that a crash cut off (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
const OVERWRITES_RECORD: u16 = 8;
/// The flags that there are (`XLP_ALL_FLAGS`).
const ALL_FLAGS: u16 = 15;

/// The header of one page (`XLogPageHeaderData`, and `XLogLongPageHeaderData` on a segment's first page).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) magic: u16,
    info: u16,
    pub(super) timeline: TimelineId,
    pub(super) address: Lsn,
    /// Bytes still to come, from here on, of the record that the page begins with the rest of.
    pub(super) remaining: u32,
    pub(super) long: Option<LongHeader>,
}

/// What the long header has besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LongHeader {
    pub(super) system_identifier: u64,
    pub(super) segment_bytes: u32,
    pub(super) page_bytes: u32,
}

impl PageHeader {
    pub(super) const SHORT_BYTES: u64 = 24;
    const LONG_BYTES: u64 = 40;

    /// `None` where `bytes` end within the header.
    pub(super) fn parse(bytes: &[u8]) -> Option<PageHeader> {
        let mut cursor = Cursor(bytes);
        let (magic, info) = (cursor.u16()?, cursor.u16()?);
        let (timeline, address, remaining) = (cursor.timeline()?, cursor.lsn()?, cursor.u32()?);
        let _padding = cursor.u32()?;
        let long = if info & LONG != 0 {
            let (system_identifier, segment_bytes, page_bytes) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
            Some(LongHeader { system_identifier, segment_bytes, page_bytes })
        } else {
            None
        };
        Some(PageHeader { magic, info, timeline, address, remaining, long })
    }

    /// Bytes up to what the page holds.
    pub(super) fn size(&self) -> u64 {
        if self.long.is_some() { Self::LONG_BYTES } else { Self::SHORT_BYTES }
    }

    /// Nothing was ever written here.
    pub(super) fn is_zeroed(&self) -> bool {
        let PageHeader { magic, info, timeline, address, remaining, long: _ } = *self;
        magic == 0 && info == 0 && timeline.0 == 0 && address == Lsn::INVALID && remaining == 0
    }

    pub(super) fn continues_record(&self) -> bool {
        self.info & CONTINUES_RECORD != 0
    }

    pub(super) fn overwrites_record(&self) -> bool {
        self.info & OVERWRITES_RECORD != 0
    }

    /// What `XLogReaderValidatePageHeader` (`src/backend/access/transam/xlogreader.c`) checks of a page by itself:
    /// its flags, and its long header, which a segment's first page must have.
    pub(super) fn check_form(&self, first_of_segment: bool) -> Result<(), BadPage> {
        if self.info & !ALL_FLAGS != 0 || (first_of_segment && self.long.is_none()) {
            return Err(BadPage::Flags(self.info));
        }
        if let Some(long) = self.long {
            if u64::from(long.page_bytes) != PAGE_BYTES {
                return Err(BadPage::PageSize(long.page_bytes));
            }
            if SegmentSize::new(long.segment_bytes).is_none() {
                return Err(BadPage::SegmentSize(long.segment_bytes));
            }
        }
        Ok(())
    }
}

/// What the first page of a segment says about all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// How it is laid out, and so the major that wrote it.
    pub layout: &'static Layout,
    /// Of the first page. May be older than the timeline in the file's name: the first segment of a timeline begins
    /// as a copy of its parent's.
    pub timeline: TimelineId,
    /// Where it belongs. In a recycled file that was not written again this is not what the file's name says.
    pub pageaddr: Lsn,
    /// Of the cluster, as `pg_control` has it.
    pub system_identifier: u64,
    /// Of all the cluster's segments.
    pub segment_size: SegmentSize,
}

impl SegmentHeader {
    /// The bytes from the start of a segment that [`SegmentHeader::parse`] needs.
    pub const BYTES: usize = PageHeader::LONG_BYTES as usize;

    /// From the first [`SegmentHeader::BYTES`] or more of a segment's file.
    ///
    /// # Errors
    /// [`BadPage`] where these are not the first bytes of a segment of a supported major.
    pub fn parse(first_bytes: &[u8]) -> Result<SegmentHeader, BadPage> {
        let header = PageHeader::parse(first_bytes).ok_or(BadPage::TooShort(first_bytes.len()))?;
        if header.is_zeroed() {
            return Err(BadPage::Zeroed);
        }
        let layout = Layout::of_magic(header.magic).ok_or(BadPage::UnknownMagic(header.magic))?;
        header.check_form(true)?;
        let long = header.long.ok_or(BadPage::Flags(header.info))?;
        let segment_size = SegmentSize::new(long.segment_bytes).ok_or(BadPage::SegmentSize(long.segment_bytes))?;
        if !header.address.0.is_multiple_of(segment_size.bytes()) {
            return Err(BadPage::Address(header.address));
        }
        Ok(SegmentHeader {
            layout,
            timeline: header.timeline,
            pageaddr: header.address,
            system_identifier: long.system_identifier,
            segment_size,
        })
    }
}

/// Why bytes are no page of WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPage {
    /// They end within the page header.
    #[error("{0} bytes are too few for the header of a WAL page")]
    TooShort(usize),
    /// All zero: never written.
    #[error("it begins with zeros: nothing was ever written there")]
    Zeroed,
    /// No supported major's pages begin so.
    #[error("its page magic {0:04X} is of no PostgreSQL from 13 to 18")]
    UnknownMagic(u16),
    /// Flags that do not exist, or a segment's first page without a long header.
    #[error("its page header has the invalid flags {0:04X}")]
    Flags(u16),
    /// The server was built with pages of another size.
    #[error("its pages are {0} bytes long; only 8192 is supported")]
    PageSize(u32),
    /// Not a size that segments can have.
    #[error("its segment size of {0} bytes is none that PostgreSQL allows")]
    SegmentSize(u32),
    /// The first page of a segment does not lie where segments start.
    #[error("its first page claims to be at {0}, where no segment starts")]
    Address(Lsn),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As PostgreSQL 15 wrote it.
    const REAL: &str = "10d102000100000000000001000000000000000000000000e92c393c2faf006b0000000100200000";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_segment_says_whose_it_is() {
        let header = SegmentHeader::parse(&bytes(REAL)).unwrap();
        assert_eq!(header.layout.major.0, 15);
        assert_eq!(header.timeline, TimelineId(1));
        assert_eq!(header.pageaddr, Lsn(0x100_0000));
        assert_eq!(header.system_identifier, 7_710_355_179_466_992_873);
        assert_eq!(header.segment_size, SegmentSize::DEFAULT);
    }

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let changed = |at: usize, value: u8| {
            let mut page = bytes(REAL);
            page[at] = value;
            SegmentHeader::parse(&page).unwrap_err()
        };
        assert_eq!(changed(0, 0x11), BadPage::UnknownMagic(0xD111));
        assert_eq!(changed(2, 0x16), BadPage::Flags(0x16));
        assert_eq!(changed(2, 0x04), BadPage::Flags(0x04), "a short header");
        assert_eq!(changed(9, 0x20), BadPage::Address(Lsn(0x100_2000)));
        assert_eq!(changed(34, 1), BadPage::SegmentSize(0x0101_0000));
        assert_eq!(changed(37, 0x40), BadPage::PageSize(16384));
        assert_eq!(SegmentHeader::parse(&bytes(REAL)[..39]), Err(BadPage::TooShort(39)));
        assert_eq!(SegmentHeader::parse(&[0; 8192]), Err(BadPage::Zeroed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = SegmentHeader::parse(&bytes);
        }
    }
}
