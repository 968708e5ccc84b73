//! Reads one segment into its summary.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::core::progress::grouped;
use crate::core::{Lsn, SegmentName};
use crate::error::{Error, ErrorKind, Result};
use crate::wal::decoder::{Look, Piece, Reached};
use crate::wal::run::{PlainCommit, Run};
use crate::wal::summary::{Damage, Summarizer, Summary, Tail};
use crate::wal::{Body, Decoder, EndOfWal, EndReason, Gap, Record, SegmentHeader};

use super::command::run::COMMAND_BROKEN;
use super::{Blocks, Cancel, Source, blocks};

/// Why a segment has no summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
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

/// Which of the records that start in a segment are shown to whom.
pub enum Show<'a> {
    /// None.
    Nothing,
    /// All.
    Records(&'a mut (dyn FnMut(&Record) + 'a)),
    /// Commits and rollbacks, until whoever sees them has seen enough: then the summary is of what lies before. Where it turns
    /// out that the segment cannot be read, what was shown does not count.
    Ends(&'a mut (dyn FnMut(&Record) -> ControlFlow<()> + 'a)),
}

/// What reading one segment came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summarized {
    /// What lies in it, or why that is not known.
    pub read: Read,
    /// So many of the segments behind it were looked into for the rest of its last record.
    pub behind: u32,
    /// Reading it again may come to something else, though no file was changed: one of them could not be read.
    pub doubtful: bool,
}

/// What lies in a segment, or why that is not known.
pub type Read = std::result::Result<Summary, Unreadable>;

/// Reads the segment `name` alone, and of the next ones on its timeline as much as its last record takes. Records
/// before the fork of its timeline are not counted; fewer than `floor` rows changed are not notable. Records are shown
/// if it is a file that can be read whole.
///
/// # Errors
/// When it was cancelled. What is damaged is in the summary.
pub fn summarize<'a>(
    source: &'a dyn Source,
    catalog: &'a Catalog,
    name: SegmentName,
    floor: u64,
    cancel: &'a Cancel,
    show: Show<'a>,
) -> Result<Summarized> {
    let mut reading = Reading { source, catalog, name, cancel, behind: 0, doubtful: false, show };
    let read = match reading.run(floor) {
        // Of a command that does not work, nothing can be said of any segment.
        Err(error) if error.report().kind != ErrorKind::Interrupted && error.report().code != COMMAND_BROKEN => {
            reading.doubtful = true;
            Err(Unreadable::Failed(error.in_words()))
        }
        read => read?,
    };
    let Reading { behind, doubtful, .. } = reading;
    Ok(Summarized { read, behind, doubtful })
}

struct Reading<'a> {
    source: &'a dyn Source,
    catalog: &'a Catalog,
    name: SegmentName,
    cancel: &'a Cancel,
    behind: u32,
    doubtful: bool,
    show: Show<'a>,
}

impl Reading<'_> {
    fn run(&mut self, floor: u64) -> Result<Read> {
        let (name, size) = (self.name, self.catalog.segment_size);
        let number = name.number(size);
        let opened = match self.show {
            Show::Nothing | Show::Ends(_) => self.source.open_blocks(name)?,
            // What was shown cannot be taken back: all of a packed one is unpacked beforehand.
            Show::Records(_) => self.source.open_segment(name, None)?.map(blocks::of_plain),
        };
        let Some(mut segment) = opened else { return Ok(Err(Unreadable::Absent)) };
        let mut block = next_block(segment.as_mut(), size.bytes(), name)?;
        let header = match SegmentHeader::parse(block) {
            Ok(header) => header,
            Err(bad) => return Ok(Err(Unreadable::Foreign(bad.to_string()))),
        };
        if let Some(foreign) = foreign(self.catalog, name, &header) {
            return Ok(Err(Unreadable::Foreign(foreign)));
        }
        let fork = self.catalog.timelines.iter().find(|timeline| timeline.id == name.timeline);
        let from = fork.and_then(|timeline| timeline.forked_at_lsn).unwrap_or(Lsn::INVALID);
        let mut summarizer = Summarizer::new(header.system_identifier, header.layout.major, from, floor);
        let mut decoder = Decoder::at_segment(number, size);
        let border = size.start_of(number + 1);
        let mut left = size.bytes();
        loop {
            self.cancel.check()?;
            left -= block.len() as u64;
            let mut taking = Taking { reading: self, border, summarizer: &mut summarizer };
            let read = taking.take_block(&mut decoder, block);
            if read.is_break() {
                // Whoever asks for ends knows the segment.
                if !matches!(self.show, Show::Ends(_)) {
                    segment.check_rest().map_err(|error| unreadable(name, &error))?;
                }
                return Ok(Ok(summarizer.finish(Tail::Full)));
            }
            if left == 0 {
                break;
            }
            block = next_block(segment.as_mut(), left, name)?;
            if block.is_empty() {
                return Ok(Ok(too_short(summarizer, decoder.finish().at, size.bytes() - left)));
            }
        }
        segment.check_rest().map_err(|error| unreadable(name, &error))?;
        drop(segment);
        if decoder.is_inside_record() {
            return self.complete(decoder, summarizer).map(Ok);
        }
        Ok(Ok(ended(summarizer, &mut decoder, border)))
    }

    /// Takes the next record. Breaks behind the last one that starts in the segment: behind a switch of segments most
    /// of it may be left unread.
    fn take(&mut self, record: &Record, border: Lsn, summarizer: &mut Summarizer) -> ControlFlow<()> {
        if record.lsn < border {
            summarizer.feed(record);
            match &mut self.show {
                Show::Nothing => {}
                Show::Records(each) => each(record),
                Show::Ends(each) if matches!(record.body, Body::Commit(_) | Body::Abort(_)) => return each(record),
                Show::Ends(_) => {}
            }
        }
        up_to(border, record.end_lsn)
    }

    /// Opens a segment behind, or what a timeline that forks off in it begins with: a server that was promoted has
    /// archived the whole of its own, and often nobody that of the one before.
    fn open_next(&mut self, next: SegmentName) -> Option<Box<dyn Blocks>> {
        let own = self.source.open_blocks(next);
        let failed = own.is_err();
        if let Some(own) = self.or_doubt(own).flatten() {
            return Some(own);
        }
        if failed {
            return None;
        }
        let heirs = heirs(self.catalog, next);
        heirs.into_iter().find_map(|heir| self.or_doubt(self.source.open_blocks(heir)).flatten())
    }

    /// What was read of a segment behind; nothing where that failed.
    fn or_doubt<T>(&mut self, read: Result<T>) -> Option<T> {
        self.doubtful |= read.is_err();
        read.ok()
    }

    /// Reads on in the segments behind, until the last record of the segment is whole.
    fn complete(&mut self, mut decoder: Decoder, mut summarizer: Summarizer) -> Result<Summary> {
        let size = self.catalog.segment_size;
        let number = self.name.number(size);
        let border = size.start_of(number + 1);
        loop {
            self.behind += 1;
            let next = SegmentName::new(self.name.timeline, number + u64::from(self.behind), size);
            // What is wrong with that one is said of that one: it takes nothing but the last record from this one.
            let Some(mut segment) = self.open_next(next) else { return Ok(summarizer.finish(Tail::CutOff)) };
            let mut left = size.bytes();
            while left > 0 {
                self.cancel.check()?;
                let block = self.or_doubt(next_block(segment.as_mut(), left, next));
                let Some(block) = block.filter(|block| !block.is_empty()) else {
                    return Ok(summarizer.finish(Tail::CutOff));
                };
                left -= block.len() as u64;
                let reached = decoder.read(block, &mut |record| {
                    let _ = self.take(record, border, &mut summarizer);
                    ControlFlow::Break(())
                });
                match reached {
                    Reached::Hungry if decoder.is_inside_record() => {}
                    Reached::End(end) if end.is_ordinary() => return Ok(summarizer.finish(Tail::CutOff)),
                    Reached::End(_) => return Ok(ended(summarizer, &mut decoder, border)),
                    Reached::Hungry | Reached::Enough | Reached::Resumed(_) => {
                        return Ok(summarizer.finish(Tail::Full));
                    }
                }
            }
        }
    }
}

/// The records of a segment on their way into its summary.
struct Taking<'a, 'r> {
    reading: &'a mut Reading<'r>,
    /// Where the segment ends.
    border: Lsn,
    summarizer: &'a mut Summarizer,
}

impl Taking<'_, '_> {
    fn take_block(&mut self, decoder: &mut Decoder, block: &[u8]) -> ControlFlow<()> {
        if !matches!(self.reading.show, Show::Records(_)) {
            return decoder.look_through(block, self);
        }
        decoder.read_through(block, &mut |piece| match piece {
            Piece::Record(record) => self.record(record),
            Piece::Gap(gap) => self.gap(gap),
        })
    }
}

/// Breaks once what was read last ends at the border or behind it.
fn up_to(border: Lsn, end: Lsn) -> ControlFlow<()> {
    if end >= border { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

impl Look for Taking<'_, '_> {
    #[inline(always)]
    fn run(&mut self, run: &Run) -> ControlFlow<()> {
        // All of its records lie on one page, and so in one segment.
        self.summarizer.feed_run(run);
        up_to(self.border, run.end)
    }

    #[inline(always)]
    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>> {
        // It lies on one page, and so in one segment.
        let is_taken = matches!(self.reading.show, Show::Nothing) && self.summarizer.feed_commit(commit);
        is_taken.then(|| up_to(self.border, commit.end))
    }

    fn record(&mut self, record: &Record) -> ControlFlow<()> {
        self.reading.take(record, self.border, self.summarizer)
    }

    fn gap(&mut self, gap: Gap) -> ControlFlow<()> {
        self.summarizer.damaged(damage(&gap.stopped, gap.found, Some(gap.resumed)));
        ControlFlow::Continue(())
    }
}

/// The first segments of the timelines that fork off in this one: each begins with a copy of it.
pub(super) fn heirs(catalog: &Catalog, name: SegmentName) -> Vec<SegmentName> {
    let size = catalog.segment_size;
    let number = name.number(size);
    let forks_in_it = |at: Lsn| at > size.start_of(number) && at <= size.start_of(number + 1);
    let children = catalog.timelines.iter().filter(|child| child.parent == Some(name.timeline));
    let heirs = children.filter(|child| child.forked_at_lsn.is_some_and(forks_in_it));
    heirs.map(|child| SegmentName::new(child.id, number, size)).collect()
}

/// The summary where WAL ended within the segment, or with it.
fn ended(mut summarizer: Summarizer, decoder: &mut Decoder, border: Lsn) -> Summary {
    let found = decoder.stopped_at();
    let end = decoder.finish();
    if !end.is_ordinary() {
        summarizer.damaged(damage(&end, found.unwrap_or(end.at), None));
        return summarizer.finish(Tail::Ends);
    }
    match end.reason {
        EndReason::NoMoreBytes if decoder.wants() >= border => summarizer.finish(Tail::Full),
        EndReason::CutOff => summarizer.finish(Tail::CutOff),
        _ => summarizer.finish(Tail::Ends),
    }
}

fn too_short(mut summarizer: Summarizer, at: Lsn, bytes: u64) -> Summary {
    let reason = format!("the file ends after {} bytes: it is no whole segment", grouped(bytes));
    summarizer.damaged(Damage { at, found: at, resumed: None, reason });
    summarizer.finish(Tail::Ends)
}

fn damage(stopped: &EndOfWal, found: Lsn, resumed: Option<Lsn>) -> Damage {
    Damage { at: stopped.at, found, resumed, reason: stopped.reason.to_string() }
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

/// The next bytes of a segment, at most so many; none where it ends.
pub(super) fn next_block(segment: &mut dyn Blocks, bytes: u64, name: SegmentName) -> Result<&[u8]> {
    let block = segment.next_block().map_err(|error| unreadable(name, &error))?;
    Ok(usize::try_from(bytes).ok().and_then(|bytes| block.get(..bytes)).unwrap_or(block))
}

fn unreadable(name: SegmentName, error: &std::io::Error) -> Error {
    Error::failed("unreadable", format!("cannot read segment {name}")).caused_by(error)
}
