//! Makes the segments ready that the server will ask for next. It is a process of its own, for as long as there is
//! something to do; whatever becomes of it is never the server's failure.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

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
    if let Some(maker) = spool.maker() {
        while make_next(&context, &spool, &maker).is_some() {}
    }
}

/// Makes one more segment ready; `None` when there is nothing left to do, or it cannot be done.
fn make_next(context: &Context, spool: &Spool, maker: &Maker<'_>) -> Option<()> {
    let instructions = &context.instructions;
    // A recovery that is over, or is begun anew, needs none of it.
    let is_running = context.directory.join("postmaster.pid").exists();
    if !is_running || Context::read(&context.directory).ok()?.instructions != *instructions {
        return None;
    }
    let upcoming = instructions.upcoming(spool.asked()?, window(instructions));
    maker.keep(&upcoming.concat());
    let ready = spool.all_ready();
    let files = upcoming.iter().find(|files| !files.iter().any(|name| ready.contains(name)))?;
    if spool.free_bytes() < SPARE_BYTES + 2 * instructions.segment_size.bytes() {
        return None;
    }
    // The server asks for the newest timeline's file first.
    files.iter().find_map(|name| make(context, maker, *name)).flatten()
}

/// Makes this segment ready. `Some(None)` where it is for the server to find out what is wrong with it.
fn make(context: &Context, maker: &Maker<'_>, name: SegmentName) -> Option<Option<()>> {
    let mut copies: Vec<Copy> = Vec::new();
    for (_, found) in context.copies(ArchiveFile::Segment(name)) {
        match found {
            Ok(found) => copies.extend(found),
            Err(_) => return Some(None),
        }
    }
    if copies.is_empty() {
        return None;
    }
    let expected = context.expected(name);
    let made = copies.iter().any(|copy| {
        is_settled(copy)
            && maker.prepare(name, &version(copy), &mut |file| write_segment(copy, &expected, file)).is_ok()
    });
    Some(made.then_some(()))
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
