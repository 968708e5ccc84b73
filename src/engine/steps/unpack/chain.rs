//! Unpacks an incremental backup and those that it builds upon, each into a directory of its own, for them to be combined.

use std::io::Read;

use crate::error::{Error, Result};
use crate::plan::chain::staging;
use crate::plan::{Chain, Link, Plan};
use crate::source::{Cancel, open_file};

use super::super::super::host::{Account, Host};
use super::super::super::record::Recorder;
use super::super::combine::is_made;
use super::meter::Meter;
use super::{Purpose, empty, identity, prepare, unpack_one};

const MANIFEST: &str = "backup_manifest";

/// Unpacks what is not unpacked yet, and holds against its manifest what is read where it lies. Gives the bytes that were
/// read.
///
/// # Errors
/// As those of one backup.
pub(super) fn unpack(
    host: &Host,
    plan: &Plan,
    chain: &Chain,
    owner: &Account,
    meter: &mut Meter<'_>,
    recorder: &Recorder<'_>,
    cancel: &Cancel,
) -> Result<u64> {
    prepare(host, plan, owner, recorder)?;
    let inside = &host.acting_as(owner);
    if is_made(plan) {
        return Ok(0);
    }
    // Whatever an earlier run has put into place, it does not know that it was whole.
    empty(inside, plan)?;
    let staging = staging(&plan.directory);
    inside.ensure_directory(&staging, owner)?;
    let mut bytes = 0;
    for (i, link) in chain.links.iter().enumerate() {
        let number = i + 1;
        let (note, known) = (staging.join(format!("{number}.done")), identity(&link.backup)?);
        if inside.read_file(&note).is_ok_and(|noted| noted == known.as_bytes()) {
            let read = link.backup.parts.iter().map(|part| part.size_bytes).sum();
            meter.next(read, read);
            continue;
        }
        let purpose = if link.in_place { Purpose::Checking } else { Purpose::Combining };
        // All of it lies inside of what the owner has: root makes nothing there with its own rights.
        bytes += unpack_one(inside, &plan.of_link(number, link), owner, purpose, meter, recorder, cancel)?;
        if !link.in_place {
            keep_manifest(inside, link, owner)?;
        }
        inside.write_file(&note, known.as_bytes(), 0o600, owner)?;
    }
    Ok(bytes)
}

/// Puts the manifest beside what it is about, where it was not: whoever combines asks it of which cluster the backup is.
fn keep_manifest(inside: &Host, link: &Link, owner: &Account) -> Result<()> {
    let (from, to) = (link.backup.manifest_path(), link.directory.join(MANIFEST));
    if !link.backup.manifest || to.is_file() {
        return Ok(());
    }
    let unreadable = |error: &std::io::Error| {
        Error::failed("manifest-broken", format!("the backup's manifest cannot be read: {}", from.display()))
            .caused_by(error)
            .hint("choose another backup: “walback backups” lists them")
    };
    let mut manifest = Vec::new();
    let read = open_file(&from).and_then(|mut file| file.read_to_end(&mut manifest));
    read.map_err(|error| unreadable(&error))?;
    inside.write_file(&to, &manifest, 0o600, owner)
}
