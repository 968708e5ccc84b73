//! Looks into one segment for the first transactions that end there, to tell where in WAL it lies.

use std::ops::ControlFlow;

use crate::core::{Lsn, SegmentName, SegmentSize, Timestamp, Xid};
use crate::error::Result;
use crate::wal::{Body, Decoder, Reached, Record, SegmentHeader, Summary};

use super::Cancel;
use super::index::Index;
use super::summarize::next_block;

/// So many transactions stand for a segment: long ones among them have old ids.
const FIRST_ENDED: usize = 8;

/// What was seen of a segment: all of it, where no transaction ended in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probe {
    /// The first transactions that ended; `None` where none did.
    pub(super) head: Option<Head>,
    /// The next id to be given out was this one at least, behind what was read.
    pub(super) next: Option<Xid>,
}

/// The first transactions that ended in a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// The time of the first.
    pub(super) at: Timestamp,
    /// The first and the last of their ids to be given out.
    pub(super) xids: (Xid, Xid),
    /// About the id that was the next to be given out where the segment begins. The commit of a bulk operation, which
    /// has an old id, is not taken for it.
    pub(super) from: Xid,
    /// How many transactions end in the segment, by how many do where it was read.
    pub(super) ends: f64,
}

/// Looks into the segment `name`, of which nothing may be known. One that cannot be read is as good as empty here:
/// whoever reads on will say so.
///
/// # Errors
/// When it was cancelled.
pub(super) fn probe(index: &Index<'_>, name: SegmentName, next: Option<SegmentName>, cancel: &Cancel) -> Result<Probe> {
    if let Some(Ok(summary)) = index.known(name) {
        return Ok(Probe::of(&summary));
    }
    let size = index.catalog().segment_size;
    let Ok(Some(mut segment)) = index.source().open_blocks(name) else { return Ok(Probe::default()) };
    let mut decoder = Decoder::at_segment(name.number(size), size);
    let mut left = size.bytes();
    let mut seen = Seen::default();
    while left > 0 {
        cancel.check()?;
        let Ok(block) = next_block(segment.as_mut(), left, name) else { break };
        if block.is_empty() {
            break;
        }
        let is_first = left == size.bytes();
        if is_first && SegmentHeader::parse(block).map(|header| header.pageaddr) != Ok(name.start(size)) {
            break;
        }
        left -= block.len() as u64;
        let reached = decoder.read(block, &mut |record| seen.take(record));
        if reached != Reached::Hungry || !seen.ended.is_empty() {
            break;
        }
    }
    if left == 0 && seen.ended.is_empty() && decoder.is_inside_record() {
        complete(index, decoder, next, &mut seen, cancel)?;
    }
    Ok(seen.into_probe(name.start(size), size))
}

/// Reads the rest of a segment's last record, which may be a commit, from the next segment.
fn complete(
    index: &Index<'_>,
    mut decoder: Decoder,
    next: Option<SegmentName>,
    seen: &mut Seen,
    cancel: &Cancel,
) -> Result<()> {
    let Some(name) = next else { return Ok(()) };
    let Ok(Some(mut segment)) = index.source().open_blocks(name) else { return Ok(()) };
    let mut reached = Reached::Hungry;
    while reached == Reached::Hungry && decoder.is_inside_record() {
        cancel.check()?;
        let Ok(block) = next_block(segment.as_mut(), u64::MAX, name) else { break };
        if block.is_empty() {
            break;
        }
        reached = decoder.read(block, &mut |record| {
            let _ = seen.take(record);
            ControlFlow::Break(())
        });
    }
    Ok(())
}

impl Probe {
    /// What a summary says.
    pub(super) fn of(summary: &Summary) -> Probe {
        let open = summary.open.iter().map(|(xid, _)| *xid);
        let newest = open.chain(summary.xids.map(|(_, newest)| newest)).reduce(newer);
        let head = summary.first_and_last_time.zip(summary.xids).map(|((at, _), xids)| Head {
            at,
            xids,
            from: xids.0,
            ends: f64::from(summary.commits) + f64::from(summary.aborts),
        });
        Probe { head, next: newest.map(behind) }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    ended: Vec<(Timestamp, Xid)>,
    next: Option<Xid>,
    /// Just behind the last record.
    end: Lsn,
}

impl Seen {
    fn take(&mut self, record: &Record) -> ControlFlow<()> {
        let next = match &record.body {
            Body::RunningTransactions(running) => Some(running.next_xid),
            Body::Checkpoint(checkpoint) => Some(Xid(checkpoint.next_xid as u32)),
            Body::Commit(outcome) | Body::Abort(outcome) => {
                self.ended.push((outcome.at, outcome.xid));
                Some(behind(outcome.xid))
            }
            _ => record.xid.map(behind),
        };
        self.next = next.into_iter().chain(self.next).reduce(newer);
        self.end = record.end_lsn;
        if self.ended.len() < FIRST_ENDED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn into_probe(self, start: Lsn, size: SegmentSize) -> Probe {
        let part = self.end.bytes_since(start).clamp(1, size.bytes()) as f64 / size.bytes() as f64;
        Probe { head: head_of(&self.ended, part), next: self.next }
    }
}

fn head_of(ended: &[(Timestamp, Xid)], part: f64) -> Option<Head> {
    let (at, some) = *ended.first()?;
    let mut xids: Vec<Xid> = ended.iter().map(|(_, xid)| *xid).collect();
    xids.sort_by_key(|xid| xid.0.wrapping_sub(some.0) as i32);
    let middle = xids.len() / 2;
    let from = Xid(xids.get(middle)?.0.wrapping_sub(middle as u32));
    Some(Head { at, xids: (*xids.first()?, *xids.last()?), from, ends: ended.len() as f64 / part })
}

fn behind(xid: Xid) -> Xid {
    Xid(xid.0.wrapping_add(1))
}

/// The one of two that was given out later.
pub(super) fn newer(one: Xid, other: Xid) -> Xid {
    if one.precedes(other) { other } else { one }
}
