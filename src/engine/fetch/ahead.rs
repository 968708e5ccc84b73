//! Makes the segments ready that the server will ask for next. It is a process of its own, for as long as there is
//! something to do; whatever becomes of it is never the server's failure.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::core::{ArchiveFile, SegmentName};
use crate::plan::fetch::Instructions;
use crate::source::copies::{Copy, Expected};

use super::super::host::now;
use super::super::host::spool::{Cached, Maker, Spool, Written, close_inherited};
use super::by_command::{Said, version_of};
use super::{Context, Found, version};

/// The hidden subcommand that `main` sends here, with the data directory.
pub const AHEAD: &str = "__fetch-ahead";

/// So many segments are kept ready.
const SEGMENTS: usize = 8;
/// So many may wait until they are on the disk, besides the one that is being written there.
const UNSYNCED: usize = 2;
/// For so long it waits until the server asks for more: starting again costs as much as half a segment.
const LINGER: Duration = Duration::from_secs(1);
/// How often it looks meanwhile. A server replays a segment in some tens of milliseconds at least.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
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

/// Makes segments ready as long as the server goes on to ask for more, and goes away. Where another one is at it, it goes
/// at once.
pub fn run_ahead(arguments: &[OsString]) {
    close_inherited();
    let Some(directory) = arguments.first().map(PathBuf::from) else { return };
    let Ok(context) = Context::read(&directory) else { return };
    let Some(spool) = Spool::at(&context.spool_path()) else { return };
    let Some(maker) = spool.maker() else { return };
    maker.remove_unfinished();
    let ahead = Ahead { context, spool: &spool, maker };
    let (written, unsynced) = sync_channel(UNSYNCED);
    std::thread::scope(|scope| {
        // While one waits for the disk, the other one unpacks. Two never unpack: the server needs the other processor.
        let maker = &ahead.maker;
        scope.spawn(move || unsynced.iter().try_for_each(|written| maker.sync(written)));
        ahead.run(&written);
        drop(written);
    });
}

/// What is to be done next.
enum Next {
    /// One of these files of a segment is to be made ready.
    Make(Vec<SegmentName>),
    /// The server has to ask for more first.
    Enough,
    /// Nobody needs more, or there is no room for it.
    Nothing,
}

struct Ahead<'a> {
    context: Context,
    spool: &'a Spool,
    maker: Maker<'a>,
}

impl Ahead<'_> {
    fn run(&self, written: &SyncSender<Written>) {
        let mut given = Vec::new();
        loop {
            let asked = self.spool.asked();
            let size = self.context.instructions.segment_size;
            if let Some(asked) = asked {
                drop_read(&mut given, asked.number(size));
            }
            match self.next(asked) {
                Next::Make(files) => {
                    // The server asks for the newest timeline's file first.
                    let Some(Some(made)) = files.iter().find_map(|name| self.make(*name)) else { return };
                    let number = files.first().map(|name| name.number(size));
                    given.extend(number.zip(made.cached()));
                    if written.send(made).is_err() {
                        return;
                    }
                }
                Next::Enough if self.is_asked_for_more(asked) => {}
                Next::Enough | Next::Nothing => return,
            }
        }
    }

    fn is_running(&self) -> bool {
        self.context.directory.join("postmaster.pid").exists()
    }

    /// Waits until the server asks for another segment than this one, for as long as it seems that it may.
    fn is_asked_for_more(&self, asked: Option<SegmentName>) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < LINGER && self.is_running() {
            std::thread::sleep(LOOK_AGAIN);
            if self.spool.asked() != asked {
                return true;
            }
        }
        false
    }

    fn next(&self, asked: Option<SegmentName>) -> Next {
        let instructions = &self.context.instructions;
        let is_ours = || Context::read(&self.context.directory).is_ok_and(|now| now.instructions == *instructions);
        // A recovery that is over, or is begun anew, needs none of it.
        let Some(asked) = asked.filter(|_| self.is_running() && is_ours()) else { return Next::Nothing };
        let upcoming = instructions.upcoming(asked, window(instructions));
        // What is asked for stays: the call notes it before it takes it.
        self.maker.keep(&instructions.of_use(asked, &upcoming));
        let ready = self.spool.all_ready();
        let is_left = |files: &&Vec<SegmentName>| !files.iter().any(|name| ready.contains(name));
        match upcoming.iter().find(is_left) {
            None if upcoming.is_empty() => Next::Nothing,
            None => Next::Enough,
            Some(_) if self.spool.free_bytes() < SPARE_BYTES + 2 * instructions.segment_size.bytes() => Next::Nothing,
            Some(files) => Next::Make(files.clone()),
        }
    }

    /// Makes this segment ready; `None` where no archive has it. `Some(None)` where it is for the server to find out what is
    /// wrong with it.
    fn make(&self, name: SegmentName) -> Option<Option<Written>> {
        let expected = self.context.expected(name);
        let mut is_there = false;
        for found in self.context.find_all(ArchiveFile::Segment(name)) {
            match found {
                Found::Directory(_, Err(_)) => return Some(None),
                Found::Directory(_, Ok(copies)) => {
                    is_there |= !copies.is_empty();
                    let made = |copy: &Copy| {
                        let mut write = |file: &mut File| write_segment(copy, &expected, file);
                        self.maker.prepare(name, &version(copy), &mut write).ok()
                    };
                    if let Some(made) = copies.iter().filter(|copy| is_settled(copy)).find_map(made) {
                        return Some(Some(made));
                    }
                }
                Found::Command(command) => {
                    let mut is_missing = false;
                    // The server waits for a segment that is being made: so the command runs meanwhile.
                    let made = self.maker.prepare(name, &version_of(command), &mut |file| match self
                        .context
                        .by_command(command, ArchiveFile::Segment(name))
                    {
                        Ok(Said::Given(given)) => match given.copies.first() {
                            Some(copy) => write_segment(copy, &expected, file),
                            None => Err(io::ErrorKind::NotFound.into()),
                        },
                        Ok(Said::Missing(words)) => {
                            is_missing = true;
                            Err(io::Error::other(words))
                        }
                        Err(words) => Err(io::Error::other(words)),
                    });
                    match made {
                        Ok(made) => return Some(Some(made)),
                        Err(_) => is_there |= !is_missing,
                    }
                }
            }
        }
        is_there.then_some(None)
    }
}

/// Of the segments that were made ready, by their numbers, gives the memory back of those that the server has read, now that
/// it has asked for this one. It has read the one before to its end, and begins again in that where what it finds does not go
/// on there (`XLogReadRecord`, `xlogreader.c` of 13 to 18). Of what was removed unread, the place on the disk is given back.
fn drop_read(given: &mut Vec<(u64, Cached)>, asked: u64) {
    given.retain(|(number, cached)| {
        let is_read = number.saturating_add(1) < asked;
        if is_read {
            cached.drop_pages();
        }
        !is_read && !cached.is_removed()
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Bytes of a file that are in memory.
    fn in_memory(path: &std::path::Path) -> u64 {
        let output =
            Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn what_the_server_has_read_is_on_the_disk_and_not_in_memory() {
        // Not where files may be nowhere but in memory.
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let spool = Spool::make(directory.path()).unwrap();
        let maker = spool.maker().unwrap();
        let mut given = Vec::new();
        let place = |number: u64| directory.path().join(number.to_string());
        for number in 3..=6 {
            let name = SegmentName::parse(&format!("00000001{number:016X}")).unwrap();
            let made = maker.prepare(name, "v", &mut |file| file.write_all(&[7; 1 << 20])).unwrap();
            given.extend(made.cached().map(|cached| (number, cached)));
            maker.sync(made).unwrap();
            assert!(spool.hand_over(name, "v", &place(number)));
        }
        std::fs::remove_file(place(6)).unwrap();
        drop_read(&mut given, 5);
        assert_eq!(given.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 5]);
        assert_eq!([3, 4].map(|number| in_memory(&place(number)) == 0), [true, false]);
        assert_eq!(std::fs::read(place(3)).unwrap(), [7; 1 << 20]);
    }
}
