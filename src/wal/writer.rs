//! Writes WAL as a server does, for the tests of what reads it.

use super::crc::Crc;
use super::layout::Layout;
use super::page::PAGE_BYTES;
use super::record::Header;
use crate::core::{Lsn, SegmentSize, TimelineId};

pub(super) const SYSTEM: u64 = 7_710_355_179_466_992_873;

/// WAL from the start of some page on.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) layout: &'static Layout,
    pub(super) size: SegmentSize,
    pub(super) timeline: TimelineId,
    pub(super) start: Lsn,
    pub(super) bytes: Vec<u8>,
    /// Where the records start that were written whole, and where they end.
    pub(super) records: Vec<(Lsn, Lsn)>,
    previous: Lsn,
}

impl Writer {
    pub(super) fn new(major: u16, start: Lsn) -> Writer {
        Writer {
            layout: Layout::all().iter().find(|layout| layout.major.0 == major).unwrap(),
            size: SegmentSize::new(1 << 20).unwrap(),
            timeline: TimelineId(1),
            start,
            bytes: Vec::new(),
            records: Vec::new(),
            previous: Lsn(start.0 - 64),
        }
    }

    pub(super) fn position(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }

    fn room(&self) -> usize {
        (PAGE_BYTES - self.position().0 % PAGE_BYTES) as usize
    }

    /// A page header with these flags besides those that it needs.
    pub(super) fn page(&mut self, flags: u16, remaining: usize) {
        let first = self.position().0.is_multiple_of(self.size.bytes());
        let address = self.position();
        self.bytes.extend(self.layout.magic.to_le_bytes());
        self.bytes.extend((flags | 4 | if first { 2 } else { 0 }).to_le_bytes());
        self.bytes.extend(self.timeline.0.to_le_bytes());
        self.bytes.extend(address.0.to_le_bytes());
        self.bytes.extend((remaining as u64).to_le_bytes());
        if first {
            self.bytes.extend(SYSTEM.to_le_bytes());
            self.bytes.extend((self.size.bytes() as u32).to_le_bytes());
            self.bytes.extend((PAGE_BYTES as u32).to_le_bytes());
        }
    }

    /// A whole record, on as many pages as it takes.
    pub(super) fn record(&mut self, rmgr: u8, info: u8, xid: u32, fragments: &[u8]) -> Lsn {
        self.record_up_to(rmgr, info, xid, fragments, usize::MAX)
    }

    /// A record that stops where it would go over to the next page for the `pages`th time.
    pub(super) fn record_up_to(&mut self, rmgr: u8, info: u8, xid: u32, fragments: &[u8], pages: usize) -> Lsn {
        if self.position().0.is_multiple_of(PAGE_BYTES) {
            self.page(0, 0);
        }
        let lsn = self.position();
        let bytes = record(self.previous, rmgr, info, xid, fragments);
        let mut rest = bytes.as_slice();
        for _ in 0..pages {
            let (here, behind) = rest.split_at(rest.len().min(self.room()));
            self.bytes.extend(here);
            rest = behind;
            if rest.is_empty() {
                self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
                self.previous = lsn;
                self.records.push((lsn, self.position()));
                return lsn;
            }
            if pages > 1 {
                self.page(1, rest.len());
            }
        }
        lsn
    }

    /// A switch of segments, and zeros to the segment's end.
    pub(super) fn switch(&mut self) {
        self.record(0, 0x40, 0, &[]);
        let end = self.position().0.next_multiple_of(self.size.bytes());
        self.bytes.resize((end - self.start.0) as usize, 0);
        self.records.last_mut().unwrap().1 = Lsn(end);
    }

    /// Zeros to the end of the page, and a page of them.
    pub(super) fn zeros(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE_BYTES as usize) + PAGE_BYTES as usize, 0);
    }
}

/// A record's bytes.
pub(super) fn record(previous: Lsn, rmgr: u8, info: u8, xid: u32, fragments: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((Header::BYTES + fragments.len()) as u32).to_le_bytes());
    bytes.extend(xid.to_le_bytes());
    bytes.extend(previous.0.to_le_bytes());
    bytes.extend([info, rmgr, 0, 0]);
    let mut crc = Crc::NEW;
    crc.push(&[fragments, &bytes].concat());
    bytes.extend(crc.value().to_le_bytes());
    bytes.extend(fragments);
    bytes
}

/// The fragments of a record that has only main data.
pub(super) fn main_data(data: &[u8]) -> Vec<u8> {
    [&main_data_header(data.len()), data].concat()
}

fn main_data_header(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(0) => Vec::new(),
        Ok(short) => vec![255, short],
        Err(_) => [&[254], (length as u32).to_le_bytes().as_slice()].concat(),
    }
}

/// The fragments of a record with `blocks` block references that carry `length` bytes each, and with main data.
pub(super) fn with_blocks(blocks: u8, length: u16, data: &[u8]) -> Vec<u8> {
    let mut fragments = Vec::new();
    for block in 0..blocks {
        let same = if block > 0 { 0x80 } else { 0 };
        fragments.extend([block, 0x20 | same]);
        fragments.extend(length.to_le_bytes());
        if block == 0 {
            fragments.extend([7; 12]);
        }
        fragments.extend([9; 4]);
    }
    fragments.extend(main_data_header(data.len()));
    fragments.resize(fragments.len() + usize::from(blocks) * usize::from(length), 0xAB);
    fragments.extend(data);
    fragments
}

/// The main data of a commit or abort at `micros` of PostgreSQL's time, with these subtransactions.
pub(super) fn outcome(micros: i64, subxacts: &[u32]) -> Vec<u8> {
    let mut data = micros.to_le_bytes().to_vec();
    data.extend(2u32.to_le_bytes());
    data.extend((subxacts.len() as u32).to_le_bytes());
    data.extend(subxacts.iter().flat_map(|xid| xid.to_le_bytes()));
    data
}
