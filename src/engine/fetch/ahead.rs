//! Makes the segments ready that the server will ask for next. It is a process of its own, for as long as there is
//! something to do; whatever becomes of it is never the server's failure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::core::{ArchiveFile, SegmentName};
use crate::plan::fetch::Instructions;
use crate::source::copies::{Copy, Expected};

use super::super::host::now;
use super::super::host::spool::{Maker, Spool, close_inherited};
use super::{Context, version};

/// The hidden subcommand that `main` sends here, with the data directory.
pub const AHEAD: &str = "__fetch-ahead";

/// So many segments are kept ready.
const SEGMENTS: usize = 8;
/// So many at a time are unpacked, written or waited for until they are on the disk.
const THREADS: usize = 2;
/// They take no more bytes than this, unless a single one does.
const BYTES: u64 = 512 << 20;
/// So many bytes stay free on the disk: the server needs it more.
const SPARE_BYTES: u64 = 256 << 20;
/// A file of an archive that was changed so short a time ago may be changed again at what looks like the same time.
const SETTLED_NS: i64 = 100_000_000;

/// How many segments are kept ready.
pub(super) fn window(instructions: &Instructions) -> usize {
    let fit = usize::try_from(BYTES / instructions.segment_size.bytes()).unwrap_or(SEGMENTS);
    fit.clamp(1, SEGMENTS)
}

/// Makes segments ready until enough are, and goes away. Where another one is at it, it goes at once.
pub fn run_ahead(arguments: &[OsString]) {
    close_inherited();
    let Some(directory) = arguments.first().map(PathBuf::from) else { return };
    let Ok(context) = Context::read(&directory) else { return };
    let Some(spool) = Spool::at(&context.spool_path()) else { return };
    let Some(maker) = spool.maker() else { return };
    maker.remove_unfinished();
    let ahead = Ahead { context, spool: &spool, maker, taken: Mutex::default(), turn: Mutex::default() };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| while ahead.make_next().is_some() {});
        }
    });
}

/// What the threads share. While one waits for the disk, another one unpacks; two never do, since the server needs
/// the other processor.
struct Ahead<'a> {
    context: Context,
    spool: &'a Spool,
    maker: Maker<'a>,
    /// What is being made, by the number of the segment.
    taken: Mutex<BTreeSet<u64>>,
    turn: Mutex<()>,
}

impl Ahead<'_> {
    /// Makes one more segment ready; `None` when there is nothing left to do, or it cannot be done.
    fn make_next(&self) -> Option<()> {
        let files = self.take_next()?;
        // The server asks for the newest timeline's file first.
        let made = files.iter().find_map(|name| self.make(*name)).flatten();
        let number = files.first()?.number(self.context.instructions.segment_size);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        made
    }

    /// The files of the next segment that nobody is at.
    fn take_next(&self) -> Option<Vec<SegmentName>> {
        let instructions = &self.context.instructions;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // A recovery that is over, or is begun anew, needs none of it.
        let is_running = self.context.directory.join("postmaster.pid").exists();
        if !is_running || Context::read(&self.context.directory).ok()?.instructions != *instructions {
            return None;
        }
        let upcoming = instructions.upcoming(self.spool.asked()?, window(instructions));
        self.maker.keep(&upcoming.concat());
        let ready = self.spool.all_ready();
        let number = |files: &[SegmentName]| files.first().map(|name| name.number(instructions.segment_size));
        let is_left = |files: &&Vec<SegmentName>| {
            !files.iter().any(|name| ready.contains(name))
                && number(files).is_some_and(|number| !taken.contains(&number))
        };
        let files = upcoming.iter().find(is_left)?;
        if self.spool.free_bytes() < SPARE_BYTES + 2 * instructions.segment_size.bytes() {
            return None;
        }
        taken.extend(number(files));
        Some(files.clone())
    }

    /// Makes this segment ready. `Some(None)` where it is for the server to find out what is wrong with it.
    fn make(&self, name: SegmentName) -> Option<Option<()>> {
        let mut copies: Vec<Copy> = Vec::new();
        for (_, found) in self.context.copies(ArchiveFile::Segment(name)) {
            match found {
                Ok(found) => copies.extend(found),
                Err(_) => return Some(None),
            }
        }
        if copies.is_empty() {
            return None;
        }
        let expected = self.context.expected(name);
        let write = |copy: &Copy, file: &mut File| {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            write_segment(copy, &expected, file)
        };
        let made = copies.iter().any(|copy| {
            is_settled(copy) && self.maker.prepare(name, &version(copy), &mut |file| write(copy, file)).is_ok()
        });
        Some(made.then_some(()))
    }
}

fn is_settled(copy: &Copy) -> bool {
    let now_ns = now().unix_micros().saturating_mul(1000);
    now_ns.saturating_sub(copy.identity.changed_ns) > SETTLED_NS
}

/// Writes a segment to a file.
pub(super) fn write_segment(copy: &Copy, expected: &Expected, file: &mut File) -> io::Result<()> {
    match copy.read_segment(expected, &mut |block: &[u8]| file.write_all(block)) {
        Ok(written) => written,
        Err(unfit) => Err(io::Error::other(unfit.to_string())),
    }
}
