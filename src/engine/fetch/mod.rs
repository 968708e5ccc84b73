//! `walback fetch`, the `restore_command` of recoveries that need more than `cp`: serves the file that the server asks
//! for, and makes the next segments ready.
//!
//! The exit status decides what becomes of the recovery: 1 is “not in the archive” to the server, which takes that for
//! the end of WAL; from 126 on it stops (`RestoreArchivedFile`, `xlogarchive.c` of 13 to 18). So nothing but a file that
//! no archive has may end with 1.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::archive::Archive;
use crate::core::{ArchiveFile, FetchCommand, SegmentName};
use crate::error::{Error, Result};
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::fetch::{INSTRUCTIONS, Instructions, SPOOL};
use crate::source::copies::{Copy, Expected, Unfit, in_archive};

use by_command::{Said, version_of};

use super::host::spool::{Spool, put, put_new, read_own, start_again};

mod ahead;
mod by_command;

pub use ahead::{AHEAD, run_ahead};

/// No archive has the file, and all of them could be asked.
pub const NOT_THERE: u8 = 1;
/// An archive could not be asked, or what it has is damaged.
pub const NOT_SERVED: u8 = 126;
/// What keeps the program itself from doing its work: wrong arguments, no instructions, a full disk.
pub const NOT_ABLE: u8 = 200;

/// What became of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Served,
    NotThere,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// The archives' fault.
    Archive(Error),
    /// Something else.
    Own(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Own(error)
    }
}

/// `--recovery ID FILE PATH`: serves the file to the path, and gives the exit status. What there is to say is given to
/// `say`, a line at a time: it goes into the server's log.
#[must_use]
pub fn run(arguments: &[OsString], say: &dyn Fn(&str)) -> u8 {
    // A panic would end with 101, which the server takes for “not there”.
    let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Fetch::new(arguments, say).map_err(Failure::from).and_then(|fetch| fetch.answer())
    }));
    let (error, status) = match answered {
        Ok(Ok(Answer::Served)) => return 0,
        Ok(Ok(Answer::NotThere)) => return NOT_THERE,
        Ok(Err(Failure::Archive(error))) => (error, NOT_SERVED),
        Ok(Err(Failure::Own(error))) => (error, NOT_ABLE),
        Err(_) => (Error::failed("panic", "walback fetch has a defect"), NOT_ABLE),
    };
    for line in error.to_string().lines() {
        say(&line.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>());
    }
    status
}

/// One file that is asked for.
struct Fetch<'a> {
    context: Context,
    file: ArchiveFile,
    to: PathBuf,
    say: &'a dyn Fn(&str),
}

/// What both the server's own call and the one that makes segments ready know.
struct Context {
    /// The data directory.
    directory: PathBuf,
    instructions: Instructions,
}

impl Context {
    /// Of the recovery whose data directory we are in, as the server runs its `restore_command`; or of one that is given
    /// by its directory.
    fn find(recovery: &Path) -> Result<Context> {
        let here = PathBuf::from(".");
        if let Ok(context) = Context::read(&here) {
            let is_it = |given: &Path| given.canonicalize().is_ok_and(|given| here.canonicalize().ok() == Some(given));
            if Path::new(&context.instructions.recovery) == recovery || is_it(recovery) {
                return Ok(context);
            }
            return Err(no_instructions(recovery)
                .because(format!("those in this directory are of the recovery {}", context.instructions.recovery)));
        }
        let directory = if recovery.components().count() > 1 { recovery } else { &here };
        Context::read(directory).map_err(|why| no_instructions(recovery).because(why))
    }

    fn read(directory: &Path) -> std::result::Result<Context, String> {
        let path = directory.join(OWN_DIRECTORY).join(INSTRUCTIONS);
        let shown = path.display();
        let json = read_own(&path).map_err(|error| format!("{shown}: {error}"))?;
        let instructions = Instructions::parse(&json).map_err(|why| format!("{shown}: {why}"))?;
        Ok(Context { directory: directory.to_path_buf(), instructions })
    }

    fn spool_path(&self) -> PathBuf {
        self.directory.join(OWN_DIRECTORY).join(SPOOL)
    }

    fn expected(&self, name: SegmentName) -> Expected {
        let Instructions { segment_size, system_identifier, major, .. } = self.instructions;
        Expected { name, size: segment_size, system_identifier, major }
    }

    /// The copies in each of the archives, in the order in which they are asked; for one that cannot be asked, why.
    /// Commands are not asked for this.
    fn find_all(&self, file: ArchiveFile) -> Vec<Found<'_>> {
        let partial = file.whole_segment().is_some_and(|name| self.instructions.partials.contains(&name));
        let found = |archive| match archive {
            Archive::Directory(archive) => Found::Directory(archive, in_archive(archive, file, partial)),
            Archive::Command(command) => Found::Command(command),
        };
        self.instructions.in_order().into_iter().map(found).collect()
    }
}

/// What an archive has of a file.
enum Found<'a> {
    /// These copies lie in a directory.
    Directory(&'a Path, io::Result<Vec<Copy>>),
    /// This command has to be asked.
    Command(&'a FetchCommand),
}

fn no_instructions(recovery: &Path) -> Error {
    Error::failed(
        "fetch-instructions",
        format!("there is nothing here that says how to fetch for {}", recovery.display()),
    )
    .hint("the server runs this in its data directory; by hand, give that with --recovery")
}

fn lost_by_the_disk(why: &str) -> Error {
    Error::failed("cannot-write", "the disk did not take a segment that the server has been given")
        .because(why.to_owned())
        .hint("look at the system's log for what is wrong with the disk; then recover to another one")
}

/// The version of a file that a segment is made of.
fn version(copy: &Copy) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(copy.identity.to_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Fetch<'_> {
    fn new<'a>(arguments: &[OsString], say: &'a dyn Fn(&str)) -> Result<Fetch<'a>> {
        let (recovery, file, to) = understand(arguments).ok_or_else(|| {
            Error::usage("usage", "this is not how walback fetch is run")
                .hint("walback fetch --recovery ID %f %p, as a restore_command; see walback fetch --help")
        })?;
        Ok(Fetch { context: Context::find(&recovery)?, file, to, say })
    }

    fn answer(&self) -> std::result::Result<Answer, Failure> {
        match self.file {
            ArchiveFile::Segment(name) => self.segment(name),
            _ => self.text(),
        }
    }

    fn segment(&self, name: SegmentName) -> std::result::Result<Answer, Failure> {
        let found = self.context.find_all(self.file);
        let spool = self.spool();
        if let Some(why) = spool.as_ref().and_then(Spool::take_failure) {
            return Err(Failure::Own(lost_by_the_disk(&why)));
        }
        let is_ready = spool.as_ref().is_some_and(|spool| {
            spool.note_asked(name);
            self.hand_over(spool, name, &found) || {
                spool.wait_for(name);
                self.hand_over(spool, name, &found)
            }
        });
        // What follows can be made ready while this one is unpacked.
        let is_there = found.iter().any(|found| match found {
            Found::Directory(_, copies) => copies.as_ref().is_ok_and(|copies| !copies.is_empty()),
            Found::Command(_) => self.context.instructions.is_expected(self.file),
        });
        if let Some(spool) = spool.filter(|_| is_there) {
            self.go_ahead(&spool, name);
        }
        let answer = if is_ready { Answer::Served } else { self.first_whole(found)? };
        if answer == Answer::Served {
            self.place_older(name);
        }
        Ok(answer)
    }

    /// Serves a segment that was made ready of one of these copies, as it is now.
    fn hand_over(&self, spool: &Spool, name: SegmentName, found: &[Found<'_>]) -> bool {
        let mut passed_over = None;
        let warn = |passed_over: Option<&PathBuf>, served: &dyn std::fmt::Display| {
            if let Some(first) = passed_over {
                (self.say)(&format!("warning: {} is not whole; {served} is", first.display()));
            }
        };
        for found in found {
            match found {
                Found::Directory(_, copies) => {
                    for copy in copies.iter().flatten() {
                        if spool.hand_over(name, &version(copy), &self.to) {
                            warn(passed_over, &copy.path.display());
                            return true;
                        }
                        passed_over.get_or_insert(&copy.path);
                    }
                }
                Found::Command(command) => {
                    if spool.hand_over(name, &version_of(command), &self.to) {
                        warn(passed_over, &format!("what {} gave", command.shown()));
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Where a rename takes segments from it to where they are asked for.
    fn spool(&self) -> Option<Spool> {
        let spool = Spool::make(&self.context.spool_path())?;
        spool.is_beside(&self.to).then_some(spool)
    }

    /// Serves the first copy that is whole.
    fn first_whole(&self, found: Vec<Found<'_>>) -> std::result::Result<Answer, Failure> {
        let mut troubles = Troubles::default();
        for found in found {
            let (copies, _given, from) = match found {
                Found::Directory(archive, Err(error)) => {
                    troubles.add(format!("the archive {}", archive.display()), &Unfit::Unreadable(error));
                    continue;
                }
                Found::Directory(_, Ok(copies)) => (copies, None, None),
                Found::Command(command) => match self.context.by_command(command, self.file) {
                    Ok(Said::Given(given)) => (given.copies.clone(), Some(given), Some(command)),
                    Ok(Said::Missing(words)) => {
                        troubles.missing.push(words);
                        continue;
                    }
                    Err(words) => {
                        troubles.only_damage = false;
                        troubles.words.push(words);
                        continue;
                    }
                },
            };
            for copy in copies {
                match self.serve(&copy)? {
                    None => {
                        troubles.words.iter().for_each(|trouble| (self.say)(&format!("warning: {trouble}")));
                        return Ok(Answer::Served);
                    }
                    Some(unfit) => troubles.add(
                        from.map_or_else(
                            || copy.path.display().to_string(),
                            |from| format!("what {} gave", from.shown()),
                        ),
                        &unfit,
                    ),
                }
            }
        }
        self.without_a_copy(troubles)
    }

    /// Serves one copy; gives why not where that is the copy's fault.
    fn serve(&self, copy: &Copy) -> std::result::Result<Option<Unfit>, Failure> {
        let mut unfit = None;
        let written = put(&self.to, &mut |file| {
            use std::io::Write;
            let read = match self.file.whole_segment() {
                Some(name) => {
                    copy.read_segment(&self.context.expected(name), &mut |block: &[u8]| file.write_all(block))
                }
                None => copy.read_text(self.file).map(|text| file.write_all(&text)),
            };
            read.unwrap_or_else(|why| {
                unfit = Some(why);
                Err(io::ErrorKind::InvalidData.into())
            })
        });
        match (written, unfit) {
            (_, Some(unfit)) => Ok(Some(unfit)),
            (Ok(()), None) => Ok(None),
            (Err(error), None) => Err(Failure::Own(
                Error::failed("cannot-write", format!("cannot write {}", self.to.display())).caused_by(&error),
            )),
        }
    }

    /// No archive has a whole copy: it is not there, where all of them could be asked.
    ///
    /// A server that reads ahead asks for what lies behind the stop, and must not fail for what it does not need. Should
    /// it need it, it does not end recovery either: it has a target, and refuses to end before that.
    fn without_a_copy(&self, troubles: Troubles) -> std::result::Result<Answer, Failure> {
        let is_behind =
            self.file.whole_segment().is_some_and(|name| self.context.instructions.is_behind_the_stop(name));
        // The plan knows that it is there: a command that says it is not may say so of whatever goes wrong.
        let is_lost = !troubles.missing.is_empty() && self.context.instructions.is_expected(self.file);
        if troubles.words.is_empty() && !is_lost {
            return Ok(Answer::NotThere);
        }
        if troubles.only_damage && is_behind {
            troubles.words.iter().for_each(|trouble| (self.say)(&format!("warning: {trouble}")));
            (self.say)(&format!("warning: {} lies behind the predicted stop and is left out", self.file));
            return Ok(Answer::NotThere);
        }
        let error = Error::failed("archive-unfit", format!("cannot get {} from the archive", self.file));
        let only_missing = troubles.words.is_empty();
        let error = troubles.words.into_iter().chain(troubles.missing).fold(error, Error::because);
        if only_missing {
            return Err(Failure::Archive(error.because("it lies before the predicted stop, and was there when that was planned").hint(
                "recovery stops here, and nothing is lost: run the command by hand for this file, and start again when it works; if the file is gone, make a new plan",
            )));
        }
        Err(Failure::Archive(error.hint(
            "recovery stops here, and nothing is lost: mend the archive, or give another with --wal, and start again",
        )))
    }

    fn text(&self) -> std::result::Result<Answer, Failure> {
        self.first_whole(self.context.find_all(self.file))
    }

    /// Puts the older timelines' files of a segment beside it, see `plan::settings::place_older_files`. What cannot be
    /// put there is not missed in most cases, so that it is no error.
    fn place_older(&self, name: SegmentName) {
        for older in self.context.instructions.older_files.get(&name).into_iter().flatten() {
            let to = self.to.with_file_name(older.to_string());
            let (mut is_there, mut is_placed) = (false, false);
            for found in self.context.find_all(ArchiveFile::Segment(*older)) {
                let (copies, _given) = match found {
                    Found::Directory(_, copies) => (copies.unwrap_or_default(), None),
                    Found::Command(command) => match self.context.by_command(command, ArchiveFile::Segment(*older)) {
                        Ok(Said::Given(given)) => (given.copies.clone(), Some(given)),
                        Ok(Said::Missing(_)) | Err(_) => continue,
                    },
                };
                is_there |= !copies.is_empty();
                is_placed = copies.iter().any(|copy| {
                    put_new(&to, &mut |file| ahead::write_segment(copy, &self.context.expected(*older), file)).is_ok()
                });
                if is_placed {
                    break;
                }
            }
            if !is_placed && is_there {
                (self.say)(&format!("warning: {older} could not be put beside {name}"));
            }
        }
    }

    /// Has the next segments made ready, where few are. That is another process's work: the server waits for this one.
    fn go_ahead(&self, spool: &Spool, name: SegmentName) {
        let upcoming = self.context.instructions.upcoming(name, ahead::window(&self.context.instructions));
        let ready = spool.all_ready();
        let ready = upcoming.iter().filter(|files| files.iter().any(|name| ready.contains(name))).count();
        if ready < upcoming.len() && ready * 2 <= upcoming.len() && spool.maker().is_some() {
            let directory = self.context.directory.display().to_string();
            // Without it, replay takes longer, and that is all.
            let _ = start_again(&[AHEAD, &directory]);
        }
    }
}

/// Why copies are not what they should be.
struct Troubles {
    words: Vec<String>,
    only_damage: bool,
    /// How commands said that it is not there.
    missing: Vec<String>,
}

impl Default for Troubles {
    fn default() -> Troubles {
        Troubles { words: Vec::new(), only_damage: true, missing: Vec::new() }
    }
}

impl Troubles {
    fn add(&mut self, what: String, unfit: &Unfit) {
        match unfit {
            // A segment that is still to be written is not there.
            Unfit::Unwritten => return,
            Unfit::Damaged(_) => {}
            Unfit::Unreadable(_) => self.only_damage = false,
        }
        self.words.push(format!("{what}: {unfit}"));
    }
}

/// The recovery, the file and where it goes; `None` where that is not what the arguments say.
fn understand(arguments: &[OsString]) -> Option<(PathBuf, ArchiveFile, PathBuf)> {
    let text: Vec<&str> = arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
    let (recovery, rest) = match text.as_slice() {
        ["--recovery", recovery, rest @ ..] => (*recovery, rest),
        [first, rest @ ..] => (first.strip_prefix("--recovery=")?, rest),
        [] => return None,
    };
    let [file, to] = rest else { return None };
    // The server asks for no other names, and never for a `.partial`.
    let file = ArchiveFile::parse(file).filter(|file| !matches!(file, ArchiveFile::Partial(_)))?;
    (!recovery.is_empty() && !to.is_empty()).then(|| (PathBuf::from(recovery), file, PathBuf::from(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_the_servers_own_call_is_understood() {
        let file = "000000010000000000000002";
        let to = "pg_wal/RECOVERYXLOG";
        for call in [&["--recovery", "a", file, to][..], &["--recovery=a", "00000002.history", to]] {
            assert!(understand(&words(call)).is_some(), "{call:?}");
        }
        for other in [
            &[][..],
            &["--recovery"],
            &["--recovery", "a"],
            &["--recovery", "a", file],
            &["--recovery", "a", file, to, "more"],
            &["--recovery", "", file, to],
            &["--recovery=a", file, ""],
            &["--other", "a", file, to],
            &["--recovery", "a", "../../etc/passwd", to],
            &["--recovery", "a", "000000010000000000000002.partial", to],
            &["--recovery", "a", "RECOVERYXLOG", to],
        ] {
            let said = std::cell::RefCell::new(Vec::new());
            let status = run(&words(other), &|line| said.borrow_mut().push(line.to_owned()));
            assert_eq!(status, NOT_ABLE, "{other:?}");
            assert!(said.borrow()[0].starts_with("error: "), "{:?}", said.borrow());
        }
    }

    #[test]
    fn a_panic_and_no_instructions_are_not_the_end_of_wal() {
        let call = words(&["--recovery", "/nowhere/at/all", "000000010000000000000002", "/nowhere/x"]);
        assert_eq!(run(&call, &|_| ()), NOT_ABLE);
    }
}
