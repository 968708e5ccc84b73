//! Unpacks a base backup into the new data directory and the places of its tablespaces: every entry stays inside, whatever
//! the backup says, and every file is held against the manifest as it goes by.
//!
//! What was interrupted goes on where it was: files that are complete are not written again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};

use sha2::{Digest, Sha256};

use crate::catalog::{Backup, BackupKind, Compression, Part, PartContents};
use crate::error::{Error, Result};
use crate::event::What;
use crate::pgdata::TablespaceMap;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::files::NEEDED_DIRECTORIES;
use crate::plan::{PlacedTablespace, Plan};
use crate::source::Cancel;

use super::super::host::{Account, Host};
use super::super::mark::Mark;
use super::super::record::Recorder;
use super::super::server::running;
use super::directory::take_another;

mod archive;
mod chain;
mod decoded;
mod done;
mod ledger;
mod meter;
mod names;
mod parts;
pub mod reading;
#[cfg(test)]
mod tests;
mod write;

use done::Done;
use ledger::Ledger;
use meter::{Meter, TELL_EVERY};
use names::{TABLESPACE_LINKS, TABLESPACE_MAP};
use parts::{Jobs, make_links, open_tar, prefix_of, take_jobs, unpack_stream};
use write::{Place, Work, locked};

/// After so many bytes, what is complete is synced and noted: so much at most has to be written again after a loss of
/// power.
const SYNC_EVERY: u64 = 2 << 30;
/// More threads gain nothing: they share the disk.
const MOST_THREADS: usize = 4;

/// What one thread does.
type Body<'s> = Box<dyn FnOnce() -> Result<()> + Send + 's>;

/// Unpacks the plan's backup, or goes on with that. Gives the bytes of it that are unpacked.
///
/// # Errors
/// When the backup cannot be read, is not whole, or is not as its manifest says; when it has an entry that does not
/// belong into a data directory, when the disk is full, or when it was cancelled. What was unpacked is left for the
/// caller to remove, or to go on with.
pub fn unpack(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<u64> {
    let mut meter = Meter::new(plan, recorder);
    match &plan.chain {
        None => unpack_one(host, plan, owner, Purpose::Data, &mut meter, recorder, cancel),
        Some(chain) => chain::unpack(host, plan, chain, owner, &mut meter, recorder, cancel),
    }
}

/// What a backup is unpacked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To be the data.
    Data,
    /// To be combined with others: a program reads it that wants links to the tablespaces.
    Combining,
    /// It is not: it is held against its manifest where it lies, and is combined with others as it is.
    Checking,
}

fn unpack_one(
    host: &Host,
    plan: &Plan,
    owner: &Account,
    purpose: Purpose,
    meter: &mut Meter<'_>,
    recorder: &Recorder<'_>,
    cancel: &Cancel,
) -> Result<u64> {
    let ledger = Ledger::open(&plan.backup)?;
    prepare(host, plan, owner, recorder)?;
    let inside = &host.acting_as(owner);
    let identity = identity(&plan.backup)?;
    let left = Done::left(inside, &plan.directory, &identity);
    if left.is_none() {
        empty(inside, plan)?;
    }
    let replace = left.is_some();
    let done = Done::begin(inside, &plan.directory, &identity, left.unwrap_or_default(), owner)?;
    let work = Work::new(ledger, done, replace, cancel);
    let unpacking = Unpacking { host, inside, plan, owner, purpose, work };
    let unpacked = unpacking.run(meter, recorder);
    meter.next(unpacking.work.count.bytes(), unpacking.work.skipped());
    if unpacked.is_err() {
        // For going on with it. Where even this fails, more is written again.
        let _ = locked(&unpacking.work.done).so_far();
    }
    unpacked
}

/// Makes, or takes, the directories that are unpacked into, where they do not carry the recovery's mark already.
///
/// # Errors
/// When one cannot be made, or is not empty any more.
fn prepare(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>) -> Result<()> {
    let roots = plan.tablespace_roots();
    let mut all = std::iter::once(plan.directory.as_path()).chain(roots);
    all.try_for_each(|directory| take_another(host, directory, &plan.recovery, owner, recorder))
}

/// Removes what an earlier run has left that nothing is known of.
fn empty(inside: &Host, plan: &Plan) -> Result<()> {
    if let Some(pid) = running(&plan.directory) {
        return Err(Error::failed(
            "server-running",
            format!("a server runs in this directory: {} (process {pid})", plan.directory.display()),
        )
        .hint(format!("stop it first: “walback stop {}”", plan.recovery)));
    }
    let all = std::iter::once(plan.directory.as_path()).chain(plan.tablespace_roots());
    all.into_iter().try_for_each(|directory| {
        Mark::check(directory, &plan.recovery)?;
        inside.empty_directory(directory, Some(OWN_DIRECTORY))
    })
}

/// A text that is another one for every other backup, and when this one is changed.
fn identity(backup: &Backup) -> Result<String> {
    let mut digest = Sha256::new();
    for part in &backup.parts {
        let metadata = std::fs::metadata(&part.path).map_err(|error| {
            Error::failed("unreadable", format!("cannot read the backup: {}", part.path.display())).caused_by(&error)
        })?;
        // A directory's own size says nothing.
        let bytes = if metadata.is_dir() { part.size_bytes } else { metadata.len() };
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        digest.update(format!("{:?} {bytes} {changed:?} {:?} {:?}\n", part.path, backup.start_lsn, backup.label));
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Unpacking<'a> {
    host: &'a Host,
    /// The same with the owner's rights.
    inside: &'a Host,
    plan: &'a Plan,
    owner: &'a Account,
    purpose: Purpose,
    work: Work<'a>,
}

impl Unpacking<'_> {
    fn run(&self, meter: &mut Meter<'_>, recorder: &Recorder<'_>) -> Result<u64> {
        meter.tell(&self.work)?;
        for part in &self.plan.backup.parts {
            self.part(part, meter)?;
        }
        if self.purpose != Purpose::Checking {
            for needed in NEEDED_DIRECTORIES {
                self.inside.ensure_directory(&self.plan.directory.join(needed), self.owner)?;
            }
            self.write_tablespaces()?;
        }
        let unknown = Ledger::open(&Backup { manifest: false, ..self.plan.backup.clone() })?;
        let ledger = std::mem::replace(&mut *locked(&self.work.ledger), unknown);
        let finding = ledger.close()?;
        self.sync()?;
        Done::forget(self.inside, &self.plan.directory)?;
        meter.tell(&self.work)?;
        if let Some(finding) = finding {
            recorder.emit(What::Finding(finding))?;
        }
        Ok(self.work.count.bytes())
    }

    fn part(&self, part: &Part, meter: &mut Meter<'_>) -> Result<()> {
        let root = self.root_of(part.holds)?;
        self.inside.ensure_directory(&root, self.owner)?;
        // Without one, files are only held against the manifest.
        let tree = match self.purpose {
            Purpose::Checking => None,
            Purpose::Data | Purpose::Combining => Some(self.inside.tree(&root, self.owner)?),
        };
        let placed = self.plan.tablespaces.iter().map(|tablespace| tablespace.oid).collect();
        let others = part.others_inside(&self.plan.backup.parts);
        let place = &Place {
            part,
            tree,
            prefix: prefix_of(part.holds),
            placed,
            others,
            follows_wal: self.plan.backup.manifest,
        };
        let work = &self.work;
        if part.compression != Compression::None {
            let (decoder, decoded) = decoded::pair();
            let decompress: Body<'_> = Box::new(move || {
                decoder.run(part, &work.count);
                Ok(())
            });
            return self.supervise(meter, vec![decompress, Box::new(move || unpack_stream(work, place, decoded))]);
        }
        let (jobs, tar) = match self.plan.backup.kind {
            BackupKind::Tar => (Jobs::of_tar(place)?, Some(open_tar(place)?)),
            BackupKind::Directory => (Jobs::of_directory(place)?, None),
        };
        let (jobs, tar) = (&Mutex::new(jobs), tar.as_ref());
        let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(2, MOST_THREADS);
        let bodies = (0..threads).map(|_| -> Body<'_> { Box::new(move || take_jobs(work, place, jobs, tar)) });
        self.supervise(meter, bodies.collect())?;
        let links = locked(jobs).take_links();
        make_links(work, place, &links)
    }

    /// Where the contents of a part go.
    fn root_of(&self, holds: PartContents) -> Result<PathBuf> {
        match holds {
            PartContents::Data => Ok(self.plan.directory.clone()),
            PartContents::Wal => Ok(self.plan.directory.join("pg_wal")),
            PartContents::Tablespace(oid) => {
                let placed = self.plan.tablespaces.iter().find(|tablespace| tablespace.oid == oid);
                placed.map(|tablespace| tablespace.to.clone()).ok_or_else(|| unplaced(oid))
            }
        }
    }

    /// Runs threads to their ends, tells about their progress, and now and then syncs and notes what is complete.
    fn supervise(&self, meter: &mut Meter<'_>, bodies: Vec<Body<'_>>) -> Result<()> {
        let (work, busy) = (&self.work, &AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Nothing is sent: when all senders are gone, all threads are done.
            let (running, done) = channel::<()>();
            for body in bodies {
                let running = running.clone();
                scope.spawn(move || {
                    if let Err(error) = body() {
                        work.fail(error);
                    }
                    drop(running);
                });
            }
            drop(running);
            while done.recv_timeout(TELL_EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = meter.tell(work) {
                    work.fail(error);
                }
                if !busy.load(Ordering::Acquire) && work.is_due(SYNC_EVERY) {
                    busy.store(true, Ordering::Release);
                    scope.spawn(move || {
                        if let Err(error) = self.checkpoint() {
                            work.fail(error);
                        }
                        busy.store(false, Ordering::Release);
                    });
                }
            }
        });
        work.outcome()?;
        work.check()
    }

    /// Has on the disk what is complete, and notes that.
    fn checkpoint(&self) -> Result<()> {
        let so_far = locked(&self.work.done).so_far()?;
        self.sync()?;
        locked(&self.work.done).synced(so_far)
    }

    fn sync(&self) -> Result<()> {
        let all: BTreeSet<&Path> =
            std::iter::once(self.plan.directory.as_path()).chain(self.plan.tablespace_roots()).collect();
        all.into_iter().try_for_each(|directory| self.host.sync_file_system(directory))
    }

    /// Has the server find its tablespaces where they are now: it makes its links from the map, where there is one.
    fn write_tablespaces(&self) -> Result<()> {
        let map = locked(&self.work.map).take();
        let placed = &self.plan.tablespaces;
        let was = map.as_deref().map(|map| TablespaceMap::parse(&String::from_utf8_lossy(map)));
        if let Some(Ok(TablespaceMap(was))) = &was
            && let Some((oid, _)) = was.iter().find(|(oid, _)| !placed.iter().any(|tablespace| tablespace.oid == *oid))
        {
            return Err(unplaced(*oid));
        }
        if placed.is_empty() {
            return Ok(());
        }
        if self.purpose == Purpose::Combining {
            return self.link_tablespaces(placed);
        }
        match self.plan.backup.kind {
            BackupKind::Tar => {}
            BackupKind::Directory => self.link_tablespaces(placed)?,
        }
        if self.plan.backup.kind == BackupKind::Tar || was.is_some() {
            let map = plan_map(placed);
            let path = self.plan.directory.join(TABLESPACE_MAP);
            self.inside.write_file(&path, map.render().as_bytes(), 0o600, self.owner)?;
        }
        Ok(())
    }

    fn link_tablespaces(&self, placed: &[PlacedTablespace]) -> Result<()> {
        let mut tree = self.inside.tree(&self.plan.directory, self.owner)?;
        placed.iter().try_for_each(|tablespace| {
            tree.point(&Path::new(TABLESPACE_LINKS).join(tablespace.oid.to_string()), &tablespace.to)
        })
    }
}

fn plan_map(placed: &[PlacedTablespace]) -> TablespaceMap {
    TablespaceMap(placed.iter().map(|tablespace| (tablespace.oid, tablespace.to.display().to_string())).collect())
}

fn unplaced(oid: u32) -> Error {
    Error::failed(
        "tablespace-unplaced",
        format!("the backup has a tablespace that the plan has no place for: OID {oid}"),
    )
    .hint("the plan did not come to it at the front of the backup; tell where it goes: --tablespace OID=DIR")
}
