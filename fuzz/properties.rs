//! What has to hold whatever the bytes are. The fuzz targets search for bytes for which it does not; `tests/fuzz.rs`
//! tries a fixed number of changes to real ones.

use std::fmt::Debug;
use std::ops::ControlFlow;

use walback::core::{Lsn, PgMajor, SegmentSize, TimelineId};
use walback::pgdata;
use walback::wal::decoder::{Decoded, Piece, Reached};
use walback::wal::{Decoder, EndOfWal, EndReason, Gap, Layout, Record, SegmentHeader, record};

const PAGE: usize = 8192;

/// The formats that [`pgdata`] reads, by their number.
pub const FORMATS: u8 = 10;

/// Where the bytes say that they belong; else somewhere.
fn place(wal: &[u8]) -> (Lsn, SegmentSize) {
    let smallest = SegmentSize::new(1 << 20).unwrap_or(SegmentSize::DEFAULT);
    SegmentHeader::parse(wal).map_or((Lsn(6 << 20), smallest), |header| (header.pageaddr, header.segment_size))
}

/// Reads `wal` from its start, or from the record at `start` bytes, in pieces of `piece` bytes, by polling, in place, and
/// over what cannot be read.
///
/// It comes to an end without a panic; all three ways find the same; and what they find is in order, and no more than
/// there can be.
pub fn decoder(wal: &[u8], start: usize, piece: usize, most: usize) {
    let (base, size) = place(wal);
    let new = || match start {
        0 => Decoder::at_segment(size.number_of(base), size),
        start => Decoder::at_record(base.plus(start as u64), size),
    };
    let wal = wal.get(start / PAGE * PAGE..).unwrap_or_default();
    let piece = piece.max(1);
    let (polled, end) = poll(new(), wal, piece);
    let (in_place, end_in_place) = read(new(), wal, piece, most.max(1));
    let differs = in_place.iter().zip(&polled).find(|(a, b)| a != b);
    assert!(differs.is_none(), "polled and read in place: {differs:?}");
    assert_eq!((in_place.len(), end_in_place), (polled.len(), end));
    let (through, gaps, last_end) = read_through(new(), wal, piece);
    assert!(through.starts_with(&polled), "without a search and with one");
    assert!(end.reason == last_end.reason || !gaps.is_empty() || through.len() == polled.len());
    for pair in through.windows(2) {
        assert!(pair[0].lsn < pair[0].end_lsn && pair[0].end_lsn <= pair[1].lsn, "{}, {}", pair[0].lsn, pair[1].lsn);
    }
    for gap in &gaps {
        assert!(gap.stopped.at <= gap.resumed && gap.found <= gap.resumed, "{gap}");
        assert!(through.iter().any(|record| record.lsn == gap.resumed), "{gap}");
    }
    assert!(through.len() <= wal.len() / 24);
}

fn poll(mut decoder: Decoder, wal: &[u8], piece: usize) -> (Vec<Record>, EndOfWal) {
    let mut records = Vec::new();
    for piece in wal.chunks(piece) {
        decoder.feed(piece);
        while let Decoded::Record(record) = decoder.poll() {
            records.push(record);
        }
    }
    (records, decoder.finish())
}

fn read(mut decoder: Decoder, wal: &[u8], piece: usize, most: usize) -> (Vec<Record>, EndOfWal) {
    let mut records = Vec::new();
    for mut piece in wal.chunks(piece) {
        loop {
            let mut left = most;
            let reached = decoder.read(std::mem::take(&mut piece), &mut |record| {
                records.push(record.clone());
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if reached != Reached::Enough {
                break;
            }
        }
    }
    (records, decoder.finish())
}

fn read_through(mut decoder: Decoder, wal: &[u8], piece: usize) -> (Vec<Record>, Vec<Gap>, EndOfWal) {
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    for piece in wal.chunks(piece) {
        let _ = decoder.read_through(piece, &mut |piece| {
            match piece {
                Piece::Record(record) => records.push(record.clone()),
                Piece::Gap(gap) => gaps.push(gap),
            }
            ControlFlow::Continue(())
        });
    }
    (records, gaps, decoder.finish())
}

/// Makes the checksum of every record right that can be found, also over pages: random changes then reach what is read
/// behind it.
pub fn mend_checksums(wal: &mut [u8]) {
    let mut page = 0;
    while let Some((header, _)) = page_header(wal, page) {
        let mut at = page + header;
        let continued = wal.get(page + 16..page + 20).map_or(0, le_u32) as usize;
        if wal.get(page + 2).is_some_and(|flags| flags & 1 != 0) {
            at = (at + continued.min(PAGE)).next_multiple_of(8);
        }
        while at < page + PAGE {
            let Some(total) = wal.get(at..at + 4).map(le_u32).filter(|total| (24..1 << 20).contains(total)) else {
                break;
            };
            mend_record(wal, at, total as usize);
            at = (at + total as usize).next_multiple_of(8);
        }
        page += PAGE;
    }
}

/// The bytes of a page's header, and its flags.
fn page_header(wal: &[u8], page: usize) -> Option<(usize, u8)> {
    let flags = *wal.get(page + 2)?;
    Some((if flags & 2 != 0 { 40 } else { 24 }, flags))
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap_or_default())
}

fn mend_record(wal: &mut [u8], start: usize, total: usize) {
    let mut places = Vec::with_capacity(total);
    let mut at = start;
    while places.len() < total {
        if at.is_multiple_of(PAGE) {
            let Some((header, _)) = page_header(wal, at) else { return };
            at += header;
        }
        let end = (at + total - places.len()).min(at / PAGE * PAGE + PAGE);
        places.extend(at..end);
        at = end;
    }
    let bytes: Option<Vec<u8>> = places.iter().map(|at| wal.get(*at).copied()).collect();
    let Some(checksum) = bytes.as_deref().and_then(record::checksum) else { return };
    for (at, byte) in places.iter().skip(20).zip(checksum.to_le_bytes()) {
        if let Some(there) = wal.get_mut(*at) {
            *there = byte;
        }
    }
}

/// Writes records whose bodies are made of `data`, with everything around them as it should be, and reads them: nothing
/// but a body may end that.
pub fn bodies(data: &[u8]) {
    const MAGICS: [u16; 6] = [0xD106, 0xD10D, 0xD110, 0xD113, 0xD116, 0xD118];
    let Some(([major, piece], mut data)) = data.split_first_chunk() else { return };
    let magic = MAGICS[usize::from(*major) % MAGICS.len()];
    let mut wal = Vec::new();
    let mut previous = 8;
    let mut written = 0;
    while let Some(([rmgr, info, low, high], rest)) = data.split_first_chunk() {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        data = rest;
        let rmgr = rmgr % 22;
        // What would end the segment is another test's.
        let info = if (rmgr, info & 0xF0) == (0, 0x40) { 0x20 } else { *info };
        previous = write_record(&mut wal, magic, previous, [rmgr, info], body);
        written += 1;
    }
    let (base, size) = place(&wal);
    let (records, end) = poll(Decoder::at_segment(size.number_of(base), size), &wal, usize::from(*piece) * 64 + 1);
    match end.reason {
        EndReason::NoMoreBytes => assert_eq!(records.len(), written),
        EndReason::Malformed { .. } => assert!(records.len() < written),
        reason => panic!("{reason}"),
    }
    decoder(&wal, 0, usize::from(*piece) * 64 + 1, 3);
}

/// Writes a record over as many pages as it takes, and gives its position.
fn write_record(wal: &mut Vec<u8>, magic: u16, previous: u64, [rmgr, info]: [u8; 2], body: &[u8]) -> u64 {
    const BASE: u64 = 6 << 20;
    let page = |wal: &mut Vec<u8>, remaining: usize| {
        let first = wal.len().is_multiple_of(1 << 20);
        let flags = u16::from(remaining > 0) | if first { 2 } else { 0 };
        wal.extend([magic.to_le_bytes(), flags.to_le_bytes()].concat());
        wal.extend(1u32.to_le_bytes());
        wal.extend((BASE + wal.len() as u64 - 8).to_le_bytes());
        wal.extend((remaining as u64).to_le_bytes());
        if first {
            wal.extend(77u64.to_le_bytes());
            wal.extend((1u32 << 20).to_le_bytes());
            wal.extend((PAGE as u32).to_le_bytes());
        }
    };
    if wal.len().is_multiple_of(PAGE) {
        page(wal, 0);
    }
    let lsn = BASE + wal.len() as u64;
    let mut record = (24 + body.len() as u32).to_le_bytes().to_vec();
    record.extend(700u32.to_le_bytes());
    record.extend(previous.to_le_bytes());
    record.extend([info, rmgr, 0, 0, 0, 0, 0, 0]);
    record.extend(body);
    let checksum = record::checksum(&record).unwrap_or_default();
    record[20..24].copy_from_slice(&checksum.to_le_bytes());
    let mut rest = record.as_slice();
    loop {
        let (here, behind) = rest.split_at(rest.len().min(PAGE - wal.len() % PAGE));
        wal.extend(here);
        rest = behind;
        if rest.is_empty() {
            wal.resize(wal.len().next_multiple_of(8), 0);
            return lsn;
        }
        page(wal, rest.len());
    }
}

/// A segment's header says nothing that cannot be.
pub fn page_headers(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::parse(bytes) {
        assert!(header.pageaddr.0.is_multiple_of(header.segment_size.bytes()));
        assert!(header.layout.major.is_supported());
        assert_eq!(Layout::of_magic(header.layout.magic), Some(header.layout));
    }
}

/// The other files of PostgreSQL, by the number of their format: they are read or refused, and written again as they
/// were where Walback writes them.
pub fn pgdata(format: u8, bytes: &[u8]) {
    fn looked_at(value: impl Debug) {
        std::hint::black_box(format!("{value:?}"));
    }
    let text = String::from_utf8_lossy(bytes);
    match format % FORMATS {
        0 => looked_at(pgdata::control_file::ControlFile::parse(bytes)),
        1 => looked_at(pgdata::backup_label::BackupLabel::parse(&text)),
        2 => looked_at(pgdata::backup_label::BackupHistory::parse(&text)),
        3 => looked_at(pgdata::manifest::Manifest::parse(bytes)),
        4 => looked_at(pgdata::history::History::parse(TimelineId(3), &text).map(|history| history.path())),
        5 => {
            let mut conf = pgdata::auto_conf::AutoConf::parse(&text);
            conf.set("recovery_target_time", &text.replace(['\0', '\n', '\r'], ""));
            let again = pgdata::auto_conf::AutoConf::parse(&conf.render());
            assert_eq!(again.get("recovery_target_time"), conf.get("recovery_target_time"));
        }
        6 => {
            for line in text.lines() {
                let line = pgdata::server_log::LogLine::parse(line);
                looked_at(pgdata::server_log::LogEvent::of(&line));
            }
        }
        7 => looked_at(pgdata::postmaster_pid::PostmasterPid::parse(&text)),
        8 => {
            if let Ok(map) = pgdata::tablespace_map::TablespaceMap::parse(&text) {
                assert_eq!(pgdata::tablespace_map::TablespaceMap::parse(&map.render()), Ok(map));
            }
        }
        _ => {
            looked_at(pgdata::filenode_map::FilenodeMap::parse(bytes));
            for major in 13..=18 {
                looked_at(pgdata::system_rows::classes(bytes, PgMajor(major)).count());
                looked_at(pgdata::system_rows::database_locales(bytes, PgMajor(major)).count());
            }
            looked_at(pgdata::system_rows::named(bytes).count());
        }
    }
}
