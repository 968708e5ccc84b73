//! Reads a base backup as unpacking it would, and writes nothing: every file is held against the manifest, and all that is
//! wrong is told, not the first thing alone.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::catalog::{Backup, BackupKind, Compression, Part, PartContents};
use crate::error::{Error, Result};
use crate::pgdata::{BadControlFile, ControlFile};
use crate::source::Cancel;
use crate::source::compress::Count;

use super::ledger::Ledger;
use super::parts::{Jobs, make_links, open_tar, prefix_of, take_jobs, unpack_stream};
use super::write::{Place, Work, locked};
use super::{Body, decoded};

/// What was found in a base backup.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that were read to their ends.
    pub files: u64,
    /// Those that are hard links, and were not compared.
    pub links: u64,
    /// Whether the files were held against a manifest.
    pub manifest: bool,
    /// Why there is none to hold them against, though there is a file.
    pub bad_manifest: Option<Error>,
    /// What is wrong with single files, or with a part from some place on.
    pub problems: Vec<Error>,
    /// Files of the manifest that are not there, or were not come to.
    pub missing: Vec<String>,
    /// Some of the files that the manifest does not know, and how many there are.
    pub extra: (Vec<String>, u64),
    /// The control file, or why it is none; `None` where it was not come to.
    pub control: Option<Result<ControlFile, BadControlFile>>,
    /// Files with pages whose checksums are wrong, and how many; looked at only where there is no manifest.
    pub wrong_pages: Vec<(PathBuf, u64)>,
}

/// Reads all of a backup on so many threads. `count` is its own, and goes up with the bytes that were read of it.
///
/// # Errors
/// Only when it was cancelled: what is wrong with the backup is in what it gives.
pub fn read(backup: &Backup, threads: usize, count: &Count, cancel: &Cancel) -> Result<Found> {
    let (ledger, bad_manifest) = match Ledger::open(backup) {
        Ok(ledger) => (ledger, None),
        Err(error) => (Ledger::open(&Backup { manifest: false, ..backup.clone() })?, Some(error)),
    };
    let manifest = ledger.has_manifest();
    let mut work = Work::reading(ledger, cancel);
    work.count = count.clone();
    // The manifest's checksums are of every byte.
    work.pages_before = backup.start_lsn.filter(|_| !manifest);
    let placed = backup.parts.iter().filter_map(|part| match part.holds {
        PartContents::Tablespace(oid) => Some(oid),
        PartContents::Data | PartContents::Wal => None,
    });
    let placed: Vec<u32> = placed.collect();
    for part in &backup.parts {
        let others = part.others_inside(&backup.parts);
        let (prefix, follows_wal) = (prefix_of(part.holds), backup.manifest);
        let place = Place { part, tree: None, prefix, placed: placed.clone(), others, follows_wal };
        let before = count.bytes();
        if let Err(error) = read_part(&work, &place, backup.kind, threads) {
            cancel.check()?;
            work.tolerate(error)?;
            // What cannot be read any more is done with, as far as progress goes.
            count.add((before + part.size_bytes).saturating_sub(count.bytes()));
        }
    }
    let control = locked(&work.control).take().map(|bytes| ControlFile::parse(&bytes));
    let mut wrong_pages = std::mem::take(&mut *locked(&work.wrong_pages));
    wrong_pages.sort();
    let ledger = locked(&work.ledger);
    let (extra, extras) = ledger.extra();
    Ok(Found {
        files: work.files.load(Ordering::Relaxed),
        links: work.links.load(Ordering::Relaxed),
        manifest,
        bad_manifest,
        problems: work.tolerated.as_ref().map(|tolerated| std::mem::take(&mut *locked(tolerated))).unwrap_or_default(),
        missing: ledger.missing(),
        extra: (extra.to_vec(), extras),
        control,
        wrong_pages,
    })
}

fn read_part(work: &Work<'_>, place: &Place<'_>, kind: BackupKind, threads: usize) -> Result<()> {
    let part: &Part = place.part;
    if part.compression != Compression::None {
        let (decoder, decoded) = decoded::pair();
        let decompress: Body<'_> = Box::new(move || {
            decoder.run(part, &work.count);
            Ok(())
        });
        return together(work, vec![decompress, Box::new(move || unpack_stream(work, place, decoded))]);
    }
    let (jobs, tar) = match kind {
        BackupKind::Tar => (Jobs::of_tar(place)?, Some(open_tar(place)?)),
        BackupKind::Directory => (Jobs::of_directory(place)?, None),
    };
    let (jobs, tar) = (&Mutex::new(jobs), tar.as_ref());
    let bodies = (0..threads.max(1)).map(|_| -> Body<'_> { Box::new(move || take_jobs(work, place, jobs, tar)) });
    together(work, bodies.collect())?;
    let links = locked(jobs).take_links();
    make_links(work, place, &links)
}

/// Runs threads to their ends; gives the first error. The next part begins anew.
fn together(work: &Work<'_>, bodies: Vec<Body<'_>>) -> Result<()> {
    std::thread::scope(|scope| {
        for body in bodies {
            scope.spawn(move || {
                if let Err(error) = body() {
                    work.fail(error);
                }
            });
        }
    });
    let outcome = work.outcome();
    work.go_on();
    outcome
}
