//! Has `pg_combinebackup` make the data of an incremental backup and those that it builds upon, and puts that into place.
//!
//! What the program was doing when it was interrupted is done again; from its end on, everything can be gone on with.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::progress::Pace;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Progress, What};
use crate::pgdata::backup_label::BackupLabel;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::chain::{PROGRAM, combined, combined_tablespace, leftovers};
use crate::plan::files::{LEFT_OUT, NEEDED_DIRECTORIES};
use crate::plan::{Chain, Finding, Plan, StepId};
use crate::source::Cancel;

use super::super::host::{Account, Host};
use super::super::mark::Mark;
use super::super::record::Recorder;
use super::super::remains::combining_for;

/// Says that the program has come to its end, and that what it made is on the disk.
const MADE: &str = "combined.made";
/// What the server would make its links from: they lead to the new places already.
const TABLESPACE_MAP: &str = "tablespace_map";
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How long a program that was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether the program has come to its end for this plan: what is in its place, or is not yet, is whole.
pub(super) fn is_made(plan: &Plan) -> bool {
    plan.directory.join(OWN_DIRECTORY).join(MADE).is_file()
}

/// Makes the data of the plan's chain, which is unpacked, or goes on with that. Gives the bytes that were written.
///
/// # Errors
/// When the program fails or was cancelled, when the disk is full, or when something cannot be put into place. What was made
/// is left for the caller to remove, or to go on with.
pub fn combine(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<u64> {
    let Some(chain) = &plan.chain else { return Ok(0) };
    Mark::check(&plan.directory, &plan.recovery)?;
    let inside = &host.acting_as(owner);
    let mut bytes = 0;
    if !is_made(plan) {
        bytes = make(host, plan, chain, owner, recorder, cancel)?;
        inside.write_file(&plan.directory.join(OWN_DIRECTORY).join(MADE), b"", 0o600, owner)?;
    }
    put_into_place(inside, plan, owner)?;
    sync(host, plan)?;
    for left in leftovers(&plan.directory, &plan.tablespaces) {
        inside.remove_tree(&left)?;
    }
    Ok(bytes)
}

/// Removes what combining has left, where the data is to be made anew; the note first, without which nothing of the rest is
/// taken for whole. An earlier plan of this recovery may have combined where this one does not.
///
/// # Errors
/// When the data directory does not carry this recovery's mark, or something cannot be removed.
pub fn forget(host: &Host, inside: &Host, plan: &Plan) -> Result<()> {
    Mark::check(&plan.directory, &plan.recovery)?;
    end_what_is_left(host, plan)?;
    inside.remove_file(&plan.directory.join(OWN_DIRECTORY).join(MADE))?;
    leftovers(&plan.directory, &[]).iter().try_for_each(|left| inside.remove_tree(left))?;
    // Where there is no mark of this recovery, nothing there was made by it.
    let roots = plan.tablespace_roots().into_iter().filter(|root| Mark::check(root, &plan.recovery).is_ok());
    roots.map(combined).try_for_each(|left| inside.remove_tree(&left))
}

/// Ends a program that a Walback which is gone left at work on this plan's data: what it makes is made again, or removed.
///
/// # Errors
/// When it does not end.
pub fn end_what_is_left(host: &Host, plan: &Plan) -> Result<()> {
    let started = Instant::now();
    loop {
        let left = combining_for(&plan.directory);
        if left.is_empty() {
            return Ok(());
        }
        left.iter().try_for_each(|pid| host.end_program(*pid))?;
        if started.elapsed() > PATIENCE {
            let named: Vec<String> = left.iter().map(u32::to_string).collect();
            let message = format!("{PROGRAM} still works in {}", plan.directory.display());
            return Err(Error::failed("combine-remains", message)
                .because(format!("process {}", named.join(", ")))
                .hint("end it, and try again"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs the program, checks what it made, and has that on the disk.
fn make(
    host: &Host,
    plan: &Plan,
    chain: &Chain,
    owner: &Account,
    recorder: &Recorder<'_>,
    cancel: &Cancel,
) -> Result<u64> {
    end_what_is_left(host, plan)?;
    let inside = &host.acting_as(owner);
    // It refuses directories that it did not make.
    outputs(plan).iter().try_for_each(|made| inside.remove_tree(made))?;
    let meter = Meter::new(chain, recorder);
    let arguments = chain.arguments(&plan.directory, &plan.tablespaces);
    let ran = host.run_long(owner, &chain.program, &arguments, &|pid| meter.tell(pid) && !cancel.is_cancelled());
    meter.outcome()?;
    let (succeeded, said) = ran.map_err(|error| match error.report().kind {
        ErrorKind::Interrupted => error,
        _ => error.hint(format!("is {PROGRAM} still there, and may {} run it?", owner.name)),
    })?;
    if !succeeded {
        return Err(failed(chain, &said));
    }
    check(inside, plan, chain)?;
    let warned = warnings(&said);
    if !warned.is_empty() {
        let finding = Finding::warning("combine-warned", format!("{PROGRAM} said: {warned}"));
        recorder
            .emit(What::Finding(finding.hint("look whether what it names matters to you; it went on all the same")))?;
    }
    sync(host, plan)?;
    outputs(plan).iter().map(|made| bytes_below(inside, made)).sum()
}

/// Bytes of all files below a directory of ours.
fn bytes_below(inside: &Host, directory: &Path) -> Result<u64> {
    let unreadable = |error: &std::io::Error| {
        Error::failed("unreadable", format!("cannot read {}", directory.display())).caused_by(error)
    };
    let mut bytes = 0;
    for entry in inside.list(directory).map_err(|error| unreadable(&error))? {
        let metadata = entry.metadata().map_err(|error| unreadable(&error))?;
        bytes += if metadata.is_dir() { bytes_below(inside, &entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Where the program writes.
fn outputs(plan: &Plan) -> Vec<PathBuf> {
    std::iter::once(combined(&plan.directory)).chain(plan.tablespaces.iter().map(combined_tablespace)).collect()
}

fn failed(chain: &Chain, said: &str) -> Error {
    let error = Error::failed("combine-failed", format!("the base backups cannot be combined: {}", chain.names()));
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let error = lines.iter().rev().take(3).rev().fold(error, |error, line| error.because((*line).to_owned()));
    if said.contains("No space left on device") {
        return error.hint("the file system is full; make space or choose another place with --into");
    }
    error.hint(format!(
        "{PROGRAM} found that they do not fit together, or could not read them; choose another backup with --backup: \
         “walback backups” lists them"
    ))
}

/// What it made has to be a full backup that begins where the last of the chain does.
fn check(inside: &Host, plan: &Plan, chain: &Chain) -> Result<()> {
    let wrong = |why: String| {
        let message = format!("{PROGRAM} made something else of {} than a base backup", chain.names());
        Error::failed("combine-failed", message).because(why).hint("choose another backup with --backup")
    };
    let made = combined(&plan.directory);
    let label =
        inside.read_file(&made.join("backup_label")).map_err(|error| wrong(format!("backup_label: {error}")))?;
    let label = BackupLabel::parse(&String::from_utf8_lossy(&label)).map_err(|error| wrong(error.to_string()))?;
    let expected = plan.backup.start_lsn;
    if label.incremental_from.is_some() || Some(label.start_lsn) != expected {
        return Err(wrong(format!("its backup_label begins at LSN {}", label.start_lsn)));
    }
    Ok(())
}

/// Renames what the program made to where it belongs. What is there already was brought there by an earlier run.
fn put_into_place(inside: &Host, plan: &Plan, owner: &Account) -> Result<()> {
    let directory = &plan.directory;
    // A backup of a server that Walback recovered has a directory of its own; this recovery has its own, too.
    inside.move_contents(&combined(directory), directory, OWN_DIRECTORY)?;
    for tablespace in &plan.tablespaces {
        inside.ensure_directory(&tablespace.to, owner)?;
        inside.move_contents(&combined_tablespace(tablespace), &tablespace.to, OWN_DIRECTORY)?;
        let link = Path::new("pg_tblspc").join(tablespace.oid.to_string());
        inside.tree(directory, owner)?.point(&link, &tablespace.to)?;
    }
    for name in LEFT_OUT.into_iter().chain([TABLESPACE_MAP]) {
        inside.remove_file(&directory.join(name))?;
    }
    NEEDED_DIRECTORIES.iter().try_for_each(|needed| inside.ensure_directory(&directory.join(needed), owner))
}

fn sync(host: &Host, plan: &Plan) -> Result<()> {
    let mut all = plan.tablespace_roots();
    all.push(&plan.directory);
    all.into_iter().try_for_each(|directory| host.sync_file_system(directory))
}

/// What it said, on one line. That there is no manifest is told of the backup itself.
fn warnings(said: &str) -> String {
    const MOST: usize = 500;
    let lines = said.lines().map(str::trim).filter(|line| !line.ends_with("/backup_manifest\" does not exist"));
    let line = lines.collect::<Vec<_>>().join("; ");
    if line.chars().count() > MOST { format!("{} …", line.chars().take(MOST).collect::<String>()) } else { line }
}

/// Tells how much the program has written, as the system counts it.
struct Meter<'a> {
    recorder: &'a Recorder<'a>,
    total: u64,
    bytes: Cell<u64>,
    pace: RefCell<Pace>,
    started: Instant,
    told: Cell<Option<Instant>>,
    failure: RefCell<Option<Error>>,
}

impl<'a> Meter<'a> {
    fn new(chain: &Chain, recorder: &'a Recorder<'a>) -> Meter<'a> {
        Meter {
            recorder,
            total: chain.amounts().map_or(0, |amounts| amounts.data),
            bytes: Cell::new(0),
            pace: RefCell::default(),
            started: Instant::now(),
            told: Cell::new(None),
            failure: RefCell::new(None),
        }
    }

    /// `false` where nobody can be told any more.
    fn tell(&self, pid: u32) -> bool {
        self.bytes.set(written_by(pid).unwrap_or_default().max(self.bytes.get()));
        if self.told.get().is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return true;
        }
        self.told.set(Some(Instant::now()));
        let mut pace = self.pace.borrow_mut();
        pace.observe(self.started.elapsed().as_secs_f64(), self.bytes.get());
        let told = self.recorder.emit(What::Progress(Progress {
            step: StepId::Combine,
            done: self.bytes.get().min(self.total),
            total: Some(self.total),
            unit: "bytes".into(),
            rate: pace.per_second(),
            eta_s: pace.eta_s(self.total),
            replayed_lsn: None,
            last_commit_at: None,
            doing: None,
            waits_for: None,
        }));
        told.map_err(|error| *self.failure.borrow_mut() = Some(error)).is_ok()
    }

    fn outcome(&self) -> Result<()> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

/// Bytes that a process has written so far (`wchar` of `/proc/PID/io`, `proc(5)`).
fn written_by(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::host::current_account;
    use crate::engine::steps::discard::clear_for_unpacking;
    use crate::plan::chain::staging;
    use crate::plan::{PlacedTablespace, example};

    #[test]
    fn only_what_this_recovery_combined_is_removed_and_without_a_chain_too() {
        let parent = tempfile::tempdir().unwrap();
        let (host, owner) = (Host::new(false).unwrap(), current_account());
        let at = |name: &str| parent.path().join(name);
        let placed =
            |oid, root: PathBuf| PlacedTablespace { oid, from: "/srv/origin".to_owned(), to: root.join("data"), root };
        let tablespaces = vec![placed(1, at("ours")), placed(2, at("others")), placed(3, at("nobodys"))];
        let plan = Plan { directory: at("data"), tablespaces, ..example() };
        assert!(plan.chain.is_none(), "an earlier plan had one");
        for (root, recovery) in
            [("data", Some("restore")), ("ours", Some("restore")), ("others", Some("other")), ("nobodys", None)]
        {
            fs::create_dir(at(root)).unwrap();
            if let Some(recovery) = recovery {
                Mark::put(&host, &at(root), recovery, true, &owner).unwrap();
            }
            fs::create_dir_all(combined(&at(root)).join("1")).unwrap();
            fs::write(combined(&at(root)).join("1/file"), "x").unwrap();
        }
        fs::create_dir(staging(&plan.directory)).unwrap();
        fs::write(plan.directory.join(OWN_DIRECTORY).join(MADE), "").unwrap();

        clear_for_unpacking(&host, &plan).unwrap();
        assert!(!is_made(&plan) && !staging(&plan.directory).exists());
        let left = ["data", "ours", "others", "nobodys"].map(|root| combined(&at(root)).join("1/file").exists());
        assert_eq!(left, [false, false, true, true]);

        let unmarked = Plan { recovery: "another".to_owned(), ..plan };
        assert!(forget(&host, &host, &unmarked).is_err());
    }
}
