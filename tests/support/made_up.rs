//! WAL that no server wrote: segments made up on the spot, so that an archive may have as many as a test wants.

// Each test program includes this module and uses a part of it.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;

use walback::catalog::{Backup, BackupKind, Catalog, Compression, Listing};
use walback::core::{ArchiveFile, Lsn, PgMajor, SegmentName, SegmentSize, TimelineId, Timestamp};
use walback::error::Result;
use walback::source::{Cancel, Identity, Source};

/// The cluster that all of it is of.
pub const SYSTEM: u64 = 7_710_355_179_466_992_873;
const PAGE: u64 = 8192;
/// PostgreSQL 15.
const MAGIC: u16 = 0xD110;
/// 2000-01-01, from which PostgreSQL counts, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Writes WAL from the start of a segment on.
pub struct Writer {
    size: SegmentSize,
    timeline: TimelineId,
    system: u64,
    start: Lsn,
    pub bytes: Vec<u8>,
    /// Where the last record starts.
    pub previous: Lsn,
}

impl Writer {
    pub fn new(timeline: TimelineId, number: u64, size: SegmentSize, previous: Lsn) -> Writer {
        Writer { size, timeline, system: SYSTEM, start: size.start_of(number), bytes: Vec::new(), previous }
    }

    /// Of another cluster.
    pub fn of_system(self, system: u64) -> Writer {
        Writer { system, ..self }
    }

    pub fn position(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }

    /// Pages behind the one being written are of another timeline.
    pub fn fork(&mut self, timeline: TimelineId) {
        self.timeline = timeline;
    }

    fn page(&mut self, remaining: usize) {
        let address = self.position();
        let first = address.0.is_multiple_of(self.size.bytes());
        let flags = 4 | (u16::from(first) * 2) | u16::from(remaining > 0);
        self.bytes.extend(MAGIC.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.timeline.0.to_le_bytes());
        self.bytes.extend(address.0.to_le_bytes());
        self.bytes.extend((remaining as u64).to_le_bytes());
        if first {
            self.bytes.extend(self.system.to_le_bytes());
            self.bytes.extend((self.size.bytes() as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// A record with this main data, on as many pages as it takes. Gives where it starts.
    pub fn record(&mut self, rmgr: u8, info: u8, xid: u32, main: &[u8]) -> Lsn {
        if self.position().0.is_multiple_of(PAGE) {
            self.page(0);
        }
        let lsn = self.position();
        let fragments = match u8::try_from(main.len()) {
            Ok(0) => Vec::new(),
            Ok(short) => [&[255, short], main].concat(),
            Err(_) => [&[254], (main.len() as u32).to_le_bytes().as_slice(), main].concat(),
        };
        let mut record = Vec::with_capacity(24 + fragments.len());
        record.extend((24 + fragments.len() as u32).to_le_bytes());
        record.extend(xid.to_le_bytes());
        record.extend(self.previous.0.to_le_bytes());
        record.extend([info, rmgr, 0, 0]);
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        crc.update(&fragments);
        crc.update(&record);
        let crc = crc.finalize() as u32;
        record.extend(crc.to_le_bytes());
        record.extend(fragments);
        let mut rest = record.as_slice();
        loop {
            let room = (PAGE - self.position().0 % PAGE) as usize;
            let (here, behind) = rest.split_at(rest.len().min(room));
            self.bytes.extend(here);
            rest = behind;
            if rest.is_empty() {
                break;
            }
            self.page(rest.len());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.previous = lsn;
        lsn
    }

    /// A transaction that commits.
    pub fn commit(&mut self, xid: u32, at: Timestamp) -> Lsn {
        self.record(1, 0x00, xid, &(at.unix_micros() - EPOCH).to_le_bytes())
    }

    /// A transaction that is rolled back.
    pub fn abort(&mut self, xid: u32, at: Timestamp) -> Lsn {
        self.record(1, 0x20, xid, &(at.unix_micros() - EPOCH).to_le_bytes())
    }

    /// A transaction that commits with these subtransactions.
    pub fn commit_with(&mut self, xid: u32, subxacts: &[u32], at: Timestamp) -> Lsn {
        let mut main = (at.unix_micros() - EPOCH).to_le_bytes().to_vec();
        main.extend([2, subxacts.len() as u32].iter().chain(subxacts).flat_map(|word| word.to_le_bytes()));
        self.record(1, 0x80, xid, &main)
    }

    /// A transaction that was prepared before commits: the record is none of its own.
    pub fn commit_prepared(&mut self, xid: u32, at: Timestamp) -> Lsn {
        let mut main = (at.unix_micros() - EPOCH).to_le_bytes().to_vec();
        main.extend([16, xid].iter().flat_map(|word: &u32| word.to_le_bytes()));
        self.record(1, 0xB0, 0, &main)
    }

    /// A transaction that commits and gives locks back.
    pub fn unlock(&mut self, xid: u32, at: Timestamp) -> Lsn {
        let mut main = (at.unix_micros() - EPOCH).to_le_bytes().to_vec();
        main.extend(0x40_u32.to_le_bytes());
        self.record(1, 0x80, xid, &main)
    }

    /// A transaction locks a relation even against readers.
    pub fn lock(&mut self, xid: u32, relation: u32) -> Lsn {
        let main: Vec<u8> = [1, xid, 5, relation].iter().flat_map(|part| part.to_le_bytes()).collect();
        self.record(8, 0x00, xid, &main)
    }

    /// Settings that a server in recovery has to match.
    pub fn parameter_change(&mut self, connections: u32) -> Lsn {
        let parts = [connections, 8, 10, 0, 64, 1];
        let mut main: Vec<u8> = parts.iter().flat_map(|part: &u32| part.to_le_bytes()).collect();
        main.extend([0; 4]);
        self.record(0, 0x60, 0, &main)
    }

    /// A restore point.
    pub fn restore_point(&mut self, name: &str, at: Timestamp) -> Lsn {
        let mut main = (at.unix_micros() - EPOCH).to_le_bytes().to_vec();
        main.extend(name.as_bytes());
        main.resize(8 + 64, 0);
        self.record(0, 0x70, 0, &main)
    }

    /// The end of a base backup that began there.
    pub fn backup_end(&mut self, start: Lsn) -> Lsn {
        self.record(0, 0x50, 0, &start.0.to_le_bytes())
    }

    /// The next id to be given out, and the transactions that run.
    pub fn running(&mut self, next: u32, xids: &[u32]) -> Lsn {
        self.running_list(false, next, xids)
    }

    /// The same, without all of their subtransactions: there are too many.
    pub fn running_overflowed(&mut self, next: u32, xids: &[u32]) -> Lsn {
        self.running_list(true, next, xids)
    }

    fn running_list(&mut self, overflowed: bool, next: u32, xids: &[u32]) -> Lsn {
        let oldest = xids.first().copied().unwrap_or(next);
        let head = [xids.len() as u32, 0, u32::from(overflowed), next, oldest, oldest.wrapping_sub(1)];
        let main: Vec<u8> = head.iter().chain(xids).flat_map(|word| word.to_le_bytes()).collect();
        self.record(8, 0x10, 0, &main)
    }

    /// What a transaction writes that loads rows.
    pub fn load(&mut self, xid: u32) -> Lsn {
        self.record(11, 0x00, xid, &[0xAB; 1000])
    }

    /// A record about nothing that ends recovery or is counted, with so many bytes.
    pub fn other(&mut self, bytes: usize) -> Lsn {
        self.record(11, 0x00, 0, &vec![0xAB; bytes])
    }

    /// Goes on in the next segment. What lies between is zeros, and is not in `bytes` yet.
    pub fn switch(&mut self) -> Lsn {
        self.record(0, 0x40, 0, &[])
    }

    /// Zeros up to the end of the segment.
    pub fn fill(&mut self) {
        let end = self.position().0.next_multiple_of(self.size.bytes());
        self.bytes.resize((end - self.start.0) as usize, 0);
    }
}

/// What lies in a made-up segment, written into a [`Writer`]. The switch at its end need not be.
pub type Content = dyn Fn(u64, &mut Writer) + Send + Sync;

/// An archive of one timeline whose segments are made when they are opened.
pub struct MadeUp {
    pub size: SegmentSize,
    pub first: u64,
    pub last: u64,
    content: Box<Content>,
    opened: Mutex<Vec<u64>>,
}

impl MadeUp {
    pub fn new(size: SegmentSize, first: u64, last: u64, content: Box<Content>) -> MadeUp {
        MadeUp { size, first, last, content, opened: Mutex::default() }
    }

    /// The numbers of the segments that were opened since this was asked last, in order, each once.
    pub fn opened(&self) -> Vec<u64> {
        let mut opened = std::mem::take(&mut *self.opened.lock().unwrap());
        opened.sort_unstable();
        opened.dedup();
        opened
    }

    pub fn name_of(&self, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(1), number, self.size)
    }

    /// The beginning of a segment: what follows is zeros.
    pub fn beginning(&self, number: u64) -> Vec<u8> {
        // Where the record before its first one starts does not depend on what that says of the one before it.
        let mut before = Writer::new(TimelineId(1), number - 1, self.size, Lsn(8));
        (self.content)(number - 1, &mut before);
        close(&mut before);
        let mut segment = Writer::new(TimelineId(1), number, self.size, before.previous);
        (self.content)(number, &mut segment);
        close(&mut segment);
        segment.bytes
    }
}

/// Ends a segment, unless it is full to the last byte.
fn close(segment: &mut Writer) {
    if segment.bytes.is_empty() || !segment.position().0.is_multiple_of(segment.size.bytes()) {
        segment.switch();
    }
}

/// A base backup that began at `start`, and whose end is in WAL.
pub fn backup(segment_size: SegmentSize, start: Lsn) -> Backup {
    Backup {
        pg_version: Some(PgMajor(15)),
        system_identifier: Some(SYSTEM),
        segment_size: Some(segment_size),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(start),
        ..Backup::at("/backups/backup", BackupKind::Tar, Compression::None)
    }
}

impl Source for MadeUp {
    fn name(&self) -> &str {
        "made up"
    }

    fn backups(&self) -> &[PathBuf] {
        &[]
    }

    fn archives(&self) -> &[PathBuf] {
        &[]
    }

    fn list(&self, _: &Cancel) -> Result<Catalog> {
        let files = (self.first..=self.last).map(|number| ArchiveFile::Segment(self.name_of(number)));
        Ok(Catalog::build(Listing {
            files: files.map(|file| (file, self.size.bytes())).collect(),
            segment_size: Some(self.size),
            system_identifier: Some(SYSTEM),
            ..Listing::default()
        }))
    }

    fn open_segment(&self, name: SegmentName, _: Option<&Backup>) -> Result<Option<Box<dyn Read + Send>>> {
        let number = name.number(self.size);
        if name.timeline != TimelineId(1) || !(self.first..=self.last).contains(&number) {
            return Ok(None);
        }
        self.opened.lock().unwrap().push(number);
        let beginning = self.beginning(number);
        let rest = self.size.bytes() - beginning.len() as u64;
        Ok(Some(Box::new(io::Cursor::new(beginning).chain(io::repeat(0).take(rest)))))
    }

    fn identities(&self, names: &[SegmentName]) -> Vec<Option<Identity>> {
        let identity = |name: &SegmentName| {
            let number = name.number(self.size);
            let there = name.timeline == TimelineId(1) && (self.first..=self.last).contains(&number);
            let bytes = self.size.bytes();
            there.then_some(Identity { place: 1, device: 1, inode: number, bytes, modified_ns: 1, changed_ns: 1 })
        };
        names.iter().map(identity).collect()
    }
}
