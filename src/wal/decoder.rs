//! Reading one stretch of WAL: bytes are fed, records are taken out, until WAL ends.

use std::ops::ControlFlow;

use super::end::{EndOfWal, EndReason, Gap};
use super::page::PAGE_BYTES;
use super::record::Record;
use super::run::{Each, PlainCommit, Run, Singly};
use super::walk::{State, Walk, Window, Wrong};
use crate::core::{Lsn, SegmentSize};

/// Reads one stretch of WAL, fed in order.
///
/// The bytes fed are consecutive, always: also where the decoder will skip them, as behind a switch of segments. The
/// next segment's file may be another timeline's. What ends WAL for the server (`XLogReadRecord`,
/// `src/backend/access/transam/xlogreader.c`) ends it here, at the same place.
///
/// ```
/// use walback::core::SegmentSize;
/// use walback::wal::{Decoded, Decoder};
///
/// let mut decoder = Decoder::at_segment(3, SegmentSize::DEFAULT);
/// for page in [[0; 8192]] {
///     decoder.feed(&page);
///     loop {
///         match decoder.poll() {
///             Decoded::Record(record) => println!("{}", record.lsn),
///             Decoded::Hungry | Decoded::Resumed(_) => break,
///             Decoded::End(end) => {
///                 assert_eq!(end.to_string(), "WAL ends at 0/3000000: nothing was written there yet");
///                 break;
///             }
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// What was fed and is not read.
    buffer: Vec<u8>,
    /// The position of the buffer's first byte.
    base: Lsn,
    walk: Walk,
}

/// Where a stretch may start at the farthest. No cluster comes this far, and behind it positions could overflow.
const FARTHEST: Lsn = Lsn(1 << 63);

/// What [`Decoder::poll`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The next record.
    Record(Record),
    /// All that was fed has been read: feed more, or [`Decoder::finish`].
    Hungry,
    /// A search that [`Decoder::resume`] began came to a record: it is the next one.
    Resumed(Gap),
    /// WAL ends. It is said again however often it is asked.
    End(EndOfWal),
}

/// How far [`Decoder::read`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// All has been read: [`Decoder::read`] what comes next, or [`Decoder::finish`].
    Hungry,
    /// Whoever got the records had enough. What is not read is kept.
    Enough,
    /// A search that [`Decoder::resume`] began came to a record: it is the next one. What is not read is kept.
    Resumed(Gap),
    /// WAL ends. What is not read is kept for [`Decoder::resume`], and dropped when more is fed instead.
    End(EndOfWal),
}

/// Who looks through WAL, see [`Decoder::look_through`]. Each may say that it has had enough.
pub trait Look {
    /// Takes records that come together.
    fn run(&mut self, run: &Run) -> ControlFlow<()>;

    /// Takes a commit of which there is no more to say; `None` where it is wanted as a record.
    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>>;

    /// Takes a record that comes by itself.
    fn record(&mut self, record: &Record) -> ControlFlow<()>;

    /// Takes note of a stretch that cannot be read. The next record is the first one behind it.
    fn gap(&mut self, gap: Gap) -> ControlFlow<()>;
}

/// Gives runs and records to who looks through WAL.
struct InRuns<'a, L>(&'a mut L);

impl<L: Look> Each for InRuns<'_, L> {
    const RUNS: bool = true;

    #[inline(always)]
    fn run(&mut self, run: &Run) -> ControlFlow<()> {
        self.0.run(run)
    }

    #[inline(always)]
    fn commit(&mut self, commit: &PlainCommit) -> Option<ControlFlow<()>> {
        self.0.commit(commit)
    }

    fn record(&mut self, record: &Record) -> ControlFlow<()> {
        self.0.record(record)
    }
}

/// What [`Decoder::read_through`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A record.
    Record(&'a Record),
    /// A stretch that cannot be read. The next record is the first one behind it.
    Gap(Gap),
}

impl Decoder {
    /// Starts at the record that starts at `start`: a redo pointer, or where another decoder stopped. Feeding begins
    /// with the page that holds it, see [`Decoder::wants`].
    #[must_use]
    pub fn at_record(start: Lsn, size: SegmentSize) -> Decoder {
        let page = Lsn(start.0 - start.0 % PAGE_BYTES);
        Decoder::new(page, State::Starting(start), start, size)
    }

    /// Starts at the first record that starts in segment `number`, or later if none does. Feeding begins with the
    /// segment's first byte.
    #[must_use]
    pub fn at_segment(number: u64, size: SegmentSize) -> Decoder {
        let start = size.start_of(number);
        Decoder::new(start, State::Seeking, start, size)
    }

    fn new(base: Lsn, state: State, replayed: Lsn, size: SegmentSize) -> Decoder {
        let mut walk = Walk::new(base, state, replayed, size);
        if base > FARTHEST {
            walk.stop(Wrong { reason: EndReason::NotARecordStart, found: replayed, behind: None });
        }
        Decoder { buffer: Vec::new(), base, walk }
    }

    /// The position of the next byte to feed. Never skips any.
    #[must_use]
    pub fn wants(&self) -> Lsn {
        self.base.plus(self.buffer.len() as u64)
    }

    /// Takes the bytes at [`Decoder::wants`], any number. They are kept until [`Decoder::poll`] has read them, so that
    /// who polls until hungry after each feeding needs no more memory than the largest feeding and one page. After the
    /// end of WAL they are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.walk.end().is_some() {
            self.base = self.wants().plus(bytes.len() as u64);
            self.buffer = Vec::new();
        } else {
            self.keep(bytes);
        }
    }

    /// Puts `bytes` behind what is kept, and drops what has been read.
    fn keep(&mut self, bytes: &[u8]) {
        let read = usize::try_from(self.walk.at.bytes_since(self.base)).unwrap_or(usize::MAX);
        let done = read.min(self.buffer.len());
        self.buffer.drain(..done);
        let skipped = if self.buffer.is_empty() { (read - done).min(bytes.len()) } else { 0 };
        self.base = self.base.plus((done + skipped) as u64);
        self.buffer.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next record among what was fed.
    pub fn poll(&mut self) -> Decoded {
        let window = Window { base: self.base, bytes: &self.buffer };
        loop {
            if let Some(decoded) = self.walk.advance(window) {
                return decoded;
            }
        }
    }

    /// Feeds `bytes` and hands every record among them to `each`, which may say that it has had enough. That comes to
    /// the same as [`Decoder::feed`] and [`Decoder::poll`], but reads in place: of whole pages nothing is copied, and
    /// for a record that owns nothing no memory is asked for.
    pub fn read(&mut self, bytes: &[u8], each: &mut impl FnMut(&Record) -> ControlFlow<()>) -> Reached {
        self.read_each(bytes, &mut Singly(each))
    }

    fn read_each(&mut self, bytes: &[u8], each: &mut impl Each) -> Reached {
        if let Some(end) = self.walk.end() {
            self.feed(bytes);
            return Reached::End(end);
        }
        let mut bytes = bytes;
        if !self.buffer.is_empty() {
            // At the end of a page nothing is left over: what is kept needs no more than its page's rest.
            let rest_of_page = self.wants().0.next_multiple_of(PAGE_BYTES) - self.wants().0;
            let (front, behind) = bytes.split_at(bytes.len().min(rest_of_page as usize));
            self.keep(front);
            let reached = self.walk.read(Window { base: self.base, bytes: &self.buffer }, each);
            self.keep(&[]);
            if reached != Reached::Hungry || !self.buffer.is_empty() {
                self.keep(behind);
                return reached;
            }
            bytes = behind;
        }
        let reached = self.walk.read(Window { base: self.base, bytes }, each);
        self.keep(bytes);
        reached
    }

    /// After the end of WAL: looks for the next record that can be trusted, and goes on there, as if WAL had not ended.
    ///
    /// That is the record behind the one that was found damaged, if it names that as the one before it; else the first
    /// on a page behind it whose header is right for its place. Its checksum has to be right, and it must not follow a
    /// record that is older than the last one read. The search goes on with what is fed; once it succeeds,
    /// [`Decoded::Resumed`] or [`Reached::Resumed`] says so once, before the record. Where it does not succeed,
    /// [`Decoder::finish`] says again where WAL had ended. Pages of a segment that claims to be another cluster's, or
    /// of another size, are left out.
    pub fn resume(&mut self) {
        self.walk.resume(self.base);
    }

    /// [`Decoder::read`], and [`Decoder::resume`] wherever WAL seems to end: for looking through what there is, where
    /// reading as the server does would stop. Whether the end that [`Decoder::finish`] says then is one of damage,
    /// [`EndOfWal::is_ordinary`] tells. `Break` where `each` had enough.
    pub fn read_through(
        &mut self,
        bytes: &[u8],
        each: &mut impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut bytes = bytes;
        loop {
            match self.read(std::mem::take(&mut bytes), &mut |record| each(Piece::Record(record))) {
                Reached::Hungry => return ControlFlow::Continue(()),
                Reached::Enough => return ControlFlow::Break(()),
                Reached::Resumed(gap) => each(Piece::Gap(gap))?,
                Reached::End(_) => self.resume(),
            }
        }
    }

    /// [`Decoder::read_through`] for who wants to know of most records only what they come to: those that say nothing,
    /// and those that changed a row, come in runs, and a commit with its time only comes as that. That takes half the time.
    /// `Break` where `look` had enough.
    pub fn look_through(&mut self, bytes: &[u8], look: &mut impl Look) -> ControlFlow<()> {
        let mut bytes = bytes;
        loop {
            match self.read_each(std::mem::take(&mut bytes), &mut InRuns(look)) {
                Reached::Hungry => return ControlFlow::Continue(()),
                Reached::Enough => return ControlFlow::Break(()),
                Reached::Resumed(gap) => look.gap(gap)?,
                Reached::End(_) => self.resume(),
            }
        }
    }

    /// Whether a record has begun of which not all bytes were fed.
    #[must_use]
    pub fn is_inside_record(&self) -> bool {
        self.walk.is_inside_record()
    }

    /// Where what ended WAL was found: the start of the page or record that is wrong, or that has to be searched behind.
    /// `None` while it has not ended. The damage may also be on a page behind it that the record goes on to.
    #[must_use]
    pub fn stopped_at(&self) -> Option<Lsn> {
        self.walk.stopped().map(|stop| stop.found)
    }

    /// Says that there are no more bytes to feed, and where WAL ends therefore. To be called when [`Decoder::poll`]
    /// is hungry: records that were not taken out are lost.
    pub fn finish(&mut self) -> EndOfWal {
        let end = self.walk.finish(self.wants());
        self.base = self.wants();
        self.buffer = Vec::new();
        end
    }
}

#[cfg(test)]
mod tests;
