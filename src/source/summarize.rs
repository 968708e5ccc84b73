//! Reads one segment into its summary.

use std::io::Read;

use crate::catalog::Catalog;
use crate::core::{Lsn, SegmentName};
use crate::error::{Error, ErrorKind, Result};
use crate::wal::summary::{Damage, Summarizer, Summary, Tail};
use crate::wal::{Decoded, Decoder, EndOfWal, EndReason, Record, SegmentHeader};

use super::{Cancel, Source};

/// Bytes read from a segment at a time.
const BLOCK: u64 = 256 << 10;
/// Bytes of the next segment read at a time, for the rest of a record: mostly one page has it.
const PAGE: u64 = 8192;

/// Why a segment has no summary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No archive has it.
    #[error("no archive has it")]
    Absent,
    /// It is none of this cluster's segments, in words.
    #[error("{0}")]
    Foreign(String),
    /// It could not be read, in words.
    #[error("it cannot be read: {0}")]
    Failed(String),
}

/// Reads the segment `name` alone, and of the next one on its timeline as much as its last record takes. Records
/// before the fork of its timeline are not counted; fewer than `floor` rows changed are not notable. `each` is shown
/// every record that starts in it.
///
/// # Errors
/// When it was cancelled. What is damaged is in the summary.
pub fn summarize(
    source: &dyn Source,
    catalog: &Catalog,
    name: SegmentName,
    floor: u64,
    cancel: &Cancel,
    each: &mut dyn FnMut(&Record),
) -> Result<std::result::Result<Summary, Unreadable>> {
    match read(source, catalog, name, floor, cancel, each) {
        Err(error) if error.report().kind != ErrorKind::Interrupted => {
            let report = error.report();
            let words = std::iter::once(&report.message).chain(&report.causes).cloned().collect::<Vec<_>>().join(": ");
            Ok(Err(Unreadable::Failed(words)))
        }
        read => read,
    }
}

fn read(
    source: &dyn Source,
    catalog: &Catalog,
    name: SegmentName,
    floor: u64,
    cancel: &Cancel,
    each: &mut dyn FnMut(&Record),
) -> Result<std::result::Result<Summary, Unreadable>> {
    let size = catalog.segment_size;
    let number = name.number(size);
    let Some(mut segment) = source.open_segment(name, None)? else { return Ok(Err(Unreadable::Absent)) };
    let mut block = Vec::with_capacity(BLOCK as usize);
    fill(&mut block, segment.as_mut(), size.bytes().min(BLOCK), name)?;
    let header = match SegmentHeader::parse(&block) {
        Ok(header) => header,
        Err(bad) => return Ok(Err(Unreadable::Foreign(bad.to_string()))),
    };
    if let Some(foreign) = foreign(catalog, name, &header) {
        return Ok(Err(Unreadable::Foreign(foreign)));
    }
    let fork = catalog.timelines.iter().find(|timeline| timeline.id == name.timeline);
    let from = fork.and_then(|timeline| timeline.forked_at_lsn).unwrap_or(Lsn::INVALID);
    let mut summarizer = Summarizer::new(header.system_identifier, header.layout.major, from, floor);
    let behind = size.start_of(number + 1);
    let mut decoder = Decoder::at_segment(number, size);
    let mut left = size.bytes();
    loop {
        cancel.check()?;
        left -= block.len() as u64;
        decoder.feed(&block);
        match drain(&mut decoder, behind, &mut summarizer, each) {
            Drained::Hungry => {}
            Drained::Behind => return Ok(Ok(summarizer.finish(Tail::Full))),
            Drained::End(end) => return Ok(Ok(ended(summarizer, &end))),
        }
        if left == 0 {
            break;
        }
        fill(&mut block, segment.as_mut(), left.min(BLOCK), name)?;
        if block.is_empty() {
            return Ok(Ok(ended(summarizer, &decoder.finish())));
        }
    }
    complete(source, catalog, name, decoder, summarizer, cancel, each).map(Ok)
}

/// Reads on in the segments behind, until the last record of the segment before is whole.
fn complete(
    source: &dyn Source,
    catalog: &Catalog,
    name: SegmentName,
    mut decoder: Decoder,
    mut summarizer: Summarizer,
    cancel: &Cancel,
    each: &mut dyn FnMut(&Record),
) -> Result<Summary> {
    let size = catalog.segment_size;
    let behind = size.start_of(name.number(size) + 1);
    if !decoder.is_inside_record() {
        return Ok(summarizer.finish(Tail::Full));
    }
    let mut number = name.number(size);
    loop {
        number += 1;
        let next = SegmentName::new(name.timeline, number, size);
        let Some(mut segment) = source.open_segment(next, None)? else {
            return Ok(summarizer.finish(Tail::CutOff));
        };
        let mut block = Vec::with_capacity(PAGE as usize);
        let mut left = size.bytes();
        while left > 0 {
            cancel.check()?;
            fill(&mut block, segment.as_mut(), left.min(PAGE), next)?;
            if block.is_empty() {
                return Ok(summarizer.finish(Tail::CutOff));
            }
            left -= block.len() as u64;
            decoder.feed(&block);
            match drain(&mut decoder, behind, &mut summarizer, each) {
                Drained::Hungry if !decoder.is_inside_record() => return Ok(summarizer.finish(Tail::Full)),
                Drained::Hungry => {}
                Drained::Behind => return Ok(summarizer.finish(Tail::Full)),
                Drained::End(end) => return Ok(ended(summarizer, &end)),
            }
        }
    }
}

enum Drained {
    Hungry,
    /// A record came that starts behind the segment.
    Behind,
    End(EndOfWal),
}

fn drain(decoder: &mut Decoder, behind: Lsn, summarizer: &mut Summarizer, each: &mut dyn FnMut(&Record)) -> Drained {
    loop {
        match decoder.poll() {
            Decoded::Record(record) if record.lsn >= behind => return Drained::Behind,
            Decoded::Record(record) => {
                summarizer.feed(&record);
                each(&record);
            }
            Decoded::Hungry => return Drained::Hungry,
            Decoded::End(end) => return Drained::End(end),
        }
    }
}

fn ended(mut summarizer: Summarizer, end: &EndOfWal) -> Summary {
    match end.reason {
        EndReason::Zeroed | EndReason::WrongPageAddress { .. } | EndReason::NoMoreBytes => {
            summarizer.finish(Tail::Ends)
        }
        EndReason::CutOff => summarizer.finish(Tail::CutOff),
        reason => {
            summarizer.damaged(Damage { at: end.at, resumed: None, reason: reason.to_string() });
            summarizer.finish(Tail::Ends)
        }
    }
}

/// Whether a segment is another cluster's, or was put under a wrong name.
fn foreign(catalog: &Catalog, name: SegmentName, header: &SegmentHeader) -> Option<String> {
    let size = catalog.segment_size;
    if let Some(ours) = catalog.system_identifier.filter(|ours| *ours != header.system_identifier) {
        return Some(format!(
            "it is of another cluster: its system identifier is {}, the archive's is {ours}",
            header.system_identifier
        ));
    }
    if header.segment_size != size {
        return Some(format!(
            "it says that segments are {} bytes long, not {}",
            header.segment_size.bytes(),
            size.bytes()
        ));
    }
    (header.pageaddr != name.start(size)).then(|| {
        format!("its contents are those of the position {}, its name that of {}", header.pageaddr, name.start(size))
    })
}

/// Fills `block` with the next bytes of a segment, at most `bytes` of them; with nothing where it ends.
fn fill(block: &mut Vec<u8>, segment: &mut dyn Read, bytes: u64, name: SegmentName) -> Result<()> {
    block.clear();
    match segment.take(bytes).read_to_end(block) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::failed("unreadable", format!("cannot read segment {name}")).caused_by(&error)),
    }
}
