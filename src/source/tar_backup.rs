//! Base backups that are tars: `base.tar` with its companions, or one tar of a data directory under any name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::catalog::{Backup, BackupKind, Compression, Part, PartContents, Tablespace};
use crate::error::Result;

use super::base_backup::{
    check_gzip_end, check_version, check_xz_end, is_elsewhere, own_manifest, take_file, take_manifest, take_wal_part,
};
use super::survey::{Held, Known, Place, Reach, Survey, Surveyor};
use super::{Cancel, open_file};

/// The files that say what a backup is. The label first: whether it was taken from a standby decides what `pg_control`'s
/// fields mean.
const TELLING: [&str; 6] =
    ["backup_label", "PG_VERSION", "tablespace_map", "global/pg_control", "postgresql.conf", "postgresql.auto.conf"];

/// What a tar turned out to be.
pub(super) enum Described {
    /// A backup, maybe a broken one, and what nobody knows of it, in words.
    Backup(Box<Backup>, Option<String>),
    /// Something else, in words that can follow its name and a colon.
    Nothing(String),
}

/// Describes the backup whose data directory is in the first of these tars. `location`: the directory that holds them,
/// or the first one itself. `reach`: how far a packed one is read.
///
/// # Errors
/// Only when it was cancelled: what is broken is described too.
pub(super) fn describe(
    location: &Path,
    parts: Vec<Part>,
    has_manifest: bool,
    reach: Reach,
    surveyor: &mut Surveyor<'_>,
    cancel: &Cancel,
) -> Result<Described> {
    let Some(data) = parts.first().cloned() else { return Ok(Described::Nothing("it holds nothing".to_owned())) };
    let mut backup = Backup::at(location, BackupKind::Tar, data.compression);
    backup.size_bytes = parts.iter().map(|part| part.size_bytes).fold(0, u64::saturating_add);
    backup.parts = parts;
    backup.manifest = has_manifest;
    if has_manifest {
        let manifest = fs::metadata(backup.manifest_path()).map_or(0, |metadata| metadata.len());
        backup.size_bytes = backup.size_bytes.saturating_add(manifest);
    }
    let oids: Vec<u32> = backup.parts.iter().filter_map(|part| oid_of(part.holds)).collect();
    let survey = surveyor.look(&data, reach, &|survey| known_of(survey, &oids));
    cancel.check()?;
    if let Some(what) = foreign(&survey, location == data.path) {
        return Ok(Described::Nothing(what));
    }
    let ended = check_end(&data).err().map(|error| error.to_string());
    if let Some(why) = ended.as_ref().or(survey.broken.as_ref()) {
        backup.problems.push(format!("{}: {why}", data.path.display()));
    }
    let directory = match survey.place() {
        Place::At(directory) => Some(directory),
        Place::Nowhere => None,
        Place::Several(all) => {
            let named: Vec<&str> = all.iter().map(|one| if one.is_empty() { "." } else { one.as_str() }).collect();
            backup.problems.push(format!("there are several data directories in it: {}", named.join(", ")));
            None
        }
    };
    if let Some(directory) = &directory {
        take_survey(&mut backup, &survey, directory);
    }
    look_at_companions(&mut backup, surveyor, cancel)?;
    if let Some(manifest) = own_manifest(&mut backup) {
        take_manifest(&mut backup, &manifest);
    }
    if let Some(directory) = &directory {
        take_tablespaces(&mut backup, &survey, directory, &data);
    }
    find_missing(&mut backup, &survey, directory.as_deref());
    if backup.start_lsn.is_none() && backup.problems.is_empty() {
        backup.problems.push(without_label(&survey, directory.as_deref().unwrap_or_default(), &data));
    }
    check_version(&mut backup);
    take_wal_part(&mut backup);
    let unknown = !survey.whole && !survey.label_first && backup.is_usable();
    let unknown = unknown.then(|| {
        format!(
            "{}: only the front of it was read, and whether it has tablespaces is not known; name this file with --backups to have all of it read",
            data.path.display()
        )
    });
    Ok(Described::Backup(Box::new(backup), unknown))
}

fn oid_of(holds: PartContents) -> Option<u32> {
    match holds {
        PartContents::Tablespace(oid) => Some(oid),
        PartContents::Data | PartContents::Wal => None,
    }
}

/// What is known of a tar that begins with its label, and whose tablespaces with these OIDs have tars of their own. What
/// the server writes has the map of tablespaces right behind the label.
fn known_of(survey: &Survey, oids: &[u32]) -> Known {
    let Place::At(directory) = survey.place() else { return Known::Nothing };
    let mut backup = Backup::at("", BackupKind::Tar, Compression::None);
    if let Some(map) = survey.file(&directory, "tablespace_map") {
        take_file(&mut backup, "tablespace_map", map);
    }
    let is_in_map = |oid: &u32| backup.tablespaces.iter().any(|tablespace| tablespace.oid == *oid);
    let mut elsewhere = backup.tablespaces.iter().filter(|tablespace| is_elsewhere(tablespace));
    let settled = oids.iter().all(is_in_map) && elsewhere.all(|tablespace| oids.contains(&tablespace.oid));
    match (settled, survey.file(&directory, "PG_VERSION")) {
        (true, Some(_)) => Known::All,
        (true, None) => Known::Tablespaces,
        (false, _) => Known::Nothing,
    }
}

/// What a tar is that is no data directory's; `None` where it is one, or was to be one.
fn foreign(survey: &Survey, is_alone: bool) -> Option<String> {
    if !is_alone || survey.place() != Place::Nowhere || (survey.entries == 0 && survey.broken.is_some()) {
        return None;
    }
    if survey.has("toc.dat") {
        return Some(super::left_alone::DUMP.to_owned());
    }
    if survey.tablespace().is_some() {
        return Some(
            "a tar of a tablespace, and not of a data directory: call it OID.tar, with the tablespace's OID, beside the tar that it belongs to"
                .to_owned(),
        );
    }
    match (survey.is_data_directory, survey.whole) {
        (false, true) => Some("a tar without a data directory in it".to_owned()),
        (false, false) if survey.broken.is_none() => {
            Some("a tar without a data directory in it, as far as its front says".to_owned())
        }
        // The names of files with holes may be others than they seem.
        (true, true) if survey.broken.is_none() => {
            Some("a tar of a part of a data directory: there is no global/pg_control in it".to_owned())
        }
        _ => None,
    }
}

/// Whether the file of a tar can be read, and a packed one comes to its end, as far as its last bytes say.
fn check_end(part: &Part) -> io::Result<()> {
    open_file(&part.path).map_err(|error| io::Error::other(format!("it cannot be read: {error}")))?;
    match part.compression {
        Compression::Gzip => check_gzip_end(part),
        Compression::Xz => check_xz_end(part),
        _ => Ok(()),
    }
}

/// Takes in what the data directory says of itself.
fn take_survey(backup: &mut Backup, survey: &Survey, directory: &str) {
    for name in TELLING {
        if let Some(bytes) = survey.file(directory, name) {
            take_file(backup, name, bytes);
        }
    }
    if let Some(data) = backup.parts.first_mut() {
        data.inside = survey.written(directory);
    }
    if directory.contains(char::REPLACEMENT_CHARACTER) {
        backup.problems.push("the name of the data directory in the tar is no text".to_owned());
    }
    if survey.whole {
        backup.unpacked_bytes = Some(survey.bytes);
    }
    backup.own_wal = survey.wal(directory).collect();
    if let Some(signed) = survey.manifest_of(backup.start_lsn) {
        backup.system_identifier = signed.system_identifier.or(backup.system_identifier);
        backup.stop_lsn = signed.end.or(backup.stop_lsn);
    }
}

/// Looks at the tars beside: whether each is whole as far as that shows, and how large a tablespace is.
fn look_at_companions(backup: &mut Backup, surveyor: &mut Surveyor<'_>, cancel: &Cancel) -> Result<()> {
    for index in 1..backup.parts.len() {
        let Some(part) = backup.parts.get(index).cloned() else { continue };
        let is_plain = part.compression == Compression::None;
        let oid = oid_of(part.holds);
        if let Err(error) = check_end(&part) {
            backup.problems.push(format!("{}: {error}", part.path.display()));
            continue;
        }
        if !is_plain && oid.is_none() {
            continue;
        }
        let survey = surveyor.look_at_front(&part, &|survey| survey.tablespace().is_some());
        cancel.check()?;
        if let Some(why) = &survey.broken {
            backup.problems.push(format!("{}: {why}", part.path.display()));
        }
        let Some(oid) = oid else { continue };
        if let (Some(inside), Some(part)) = (survey.tablespace(), backup.parts.get_mut(index)) {
            part.inside = inside.to_owned();
        }
        if survey.whole && is_plain {
            backup.unpacked_bytes = Some(backup.unpacked_bytes.unwrap_or(0).saturating_add(survey.bytes));
            let tablespace = backup.tablespaces.iter_mut().find(|tablespace| tablespace.oid == oid);
            if let Some(tablespace) = tablespace {
                tablespace.size_bytes = Some(survey.bytes);
            }
        }
    }
    Ok(())
}

/// Takes in what lies in the data directory's `pg_tblspc`: links to where tablespaces were, or, where the program that
/// made the tar has followed them, their files. `pg_basebackup` leaves the links out; what it has there lies in its place
/// (`allow_in_place_tablespaces`), and is known by the manifest.
fn take_tablespaces(backup: &mut Backup, survey: &Survey, directory: &str, data: &Part) {
    let in_place = backup.manifest || survey.manifest_of(backup.start_lsn).is_some();
    for (oid, held) in survey.tablespaces(directory) {
        let known = backup.tablespaces.iter_mut().find(|tablespace| tablespace.oid == oid);
        let has_part = backup.parts.iter().any(|part| part.holds == PartContents::Tablespace(oid));
        match held {
            Held::Link(location) if known.is_none() => {
                let location = location.clone();
                backup.tablespaces.push(Tablespace { oid, location, size_bytes: None });
            }
            Held::Files(bytes) if has_part && *bytes > 0 => {
                backup
                    .problems
                    .push(format!("it has the tablespace {oid} twice: in pg_tblspc, and in a tar of its own"));
            }
            Held::Files(bytes) if !has_part && !in_place => {
                match known {
                    Some(known) if !is_elsewhere(known) => continue,
                    Some(known) if *bytes > 0 => known.size_bytes = Some(*bytes),
                    // A directory in which there is nothing is not what was at that place.
                    Some(_) => continue,
                    None => {
                        backup.tablespaces.push(Tablespace { oid, location: String::new(), size_bytes: Some(*bytes) })
                    }
                }
                let inside = survey.written(directory).join("pg_tblspc").join(oid.to_string());
                backup.parts.push(Part { holds: PartContents::Tablespace(oid), inside, ..data.clone() });
            }
            _ => {}
        }
    }
    backup.tablespaces.sort_by_key(|tablespace| tablespace.oid);
    backup.parts.sort_by_key(order);
}

/// The order in which parts are unpacked.
pub(super) fn order(part: &Part) -> (u8, u32) {
    match part.holds {
        PartContents::Data => (0, 0),
        PartContents::Tablespace(oid) => (1, oid),
        PartContents::Wal => (2, 0),
    }
}

/// Names the tablespaces whose files are nowhere.
fn find_missing(backup: &mut Backup, survey: &Survey, directory: Option<&str>) {
    let part_of = |oid| backup.parts.iter().any(|part| part.holds == PartContents::Tablespace(oid));
    let linked = |oid| {
        let mut held = directory.into_iter().flat_map(|directory| survey.tablespaces(directory));
        held.any(|(of, held)| of == oid && matches!(held, Held::Link(_)))
    };
    let missing = backup.tablespaces.iter().filter(|tablespace| is_elsewhere(tablespace) && !part_of(tablespace.oid));
    let missing = missing.map(|Tablespace { oid, location, .. }| match linked(*oid) {
        true => format!(
            "the files of the tablespace {oid} are not in it, only the link to where they were ({location}): put a tar of them beside it, called {oid}.tar; tar -h packs what links lead to"
        ),
        false => format!("the tar of the tablespace {oid} is missing: {oid}.tar"),
    });
    let missing: Vec<String> = missing.collect();
    backup.problems.extend(missing);
}

/// Says where the label is not.
fn without_label(survey: &Survey, directory: &str, data: &Part) -> String {
    let name = data.path.file_name().unwrap_or_default().to_string_lossy();
    if !survey.whole {
        return format!(
            "{name} has no backup_label at its front: this is not a base backup, or the label comes further on; name this file with --backups to have all of it read"
        );
    }
    let beside = data.path.with_file_name("backup_label");
    let hint = match survey.elsewhere(directory, "backup_label") {
        Some(other) => format!(
            "; one lies at another place in it, {other}: where that is this copy's, pack it into the data directory"
        ),
        None if beside.is_file() => format!(
            "; one lies beside it, {}: where that is this copy's, pack it into the data directory",
            beside.display()
        ),
        None => String::new(),
    };
    format!(
        "there is no backup_label in it: it is a copy of a data directory, and where its recovery would have to begin nobody can tell{hint}"
    )
}

/// What a listing did not have to know, and a backup's recovery does: `pg_control`, which says where a standby's backup
/// ended, and the segments that the tar holds. Reads all of it.
///
/// # Errors
/// When it cannot be read to its end.
pub(super) fn read_to_the_end(backup: &mut Backup, surveyor: &mut Surveyor<'_>) -> io::Result<()> {
    let Some(data) = backup.parts.iter().find(|part| part.holds == PartContents::Data).cloned() else { return Ok(()) };
    let survey = surveyor.look(&data, Reach::ToTheEnd, &|_| Known::Nothing);
    if let Some(why) = survey.broken {
        return Err(io::Error::other(why));
    }
    let Place::At(directory) = survey.place() else { return Ok(()) };
    backup.own_wal.extend(survey.wal(&directory));
    backup.own_wal.sort();
    backup.own_wal.dedup();
    if let Some(control) = survey.file(&directory, "global/pg_control") {
        take_file(backup, "global/pg_control", control);
    }
    if let Some(signed) = survey.manifest_of(backup.start_lsn) {
        backup.stop_lsn = backup.stop_lsn.or(signed.end);
    }
    Ok(())
}

/// A part of a backup by the name of its tar, where that is one that `pg_basebackup` gives: `base`, `pg_wal`, or an OID.
pub(super) fn named_part(path: PathBuf, size_bytes: u64) -> Option<Part> {
    let name = path.file_name()?.to_str()?;
    let (stem, compression) = Compression::of_name(name);
    let holds = match stem.strip_suffix(".tar")? {
        "base" => PartContents::Data,
        "pg_wal" => PartContents::Wal,
        oid => PartContents::Tablespace(oid.parse().ok()?),
    };
    Some(Part { path, holds, compression, size_bytes, inside: PathBuf::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GNU tar writes `global/GNUSparseFile.123/pg_control` where it has holes, and what it is called behind that.
    #[test]
    fn a_tar_with_holes_that_are_not_read_is_a_backup_that_cannot_be_used() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("global")).unwrap();
        fs::write(place.path().join("PG_VERSION"), "15\n").unwrap();
        let control = fs::File::create(place.path().join("global/pg_control")).unwrap();
        control.set_len(1 << 20).unwrap();
        let path = place.path().join("monday.tar");
        let mut tar = std::process::Command::new("tar");
        tar.args(["--sparse", "--hole-detection=raw", "--format=posix", "-cf"]).arg(&path);
        assert!(tar.arg("-C").arg(place.path()).args(["PG_VERSION", "global"]).status().unwrap().success());
        let size_bytes = fs::metadata(&path).unwrap().len();
        let (holds, compression, inside) = (PartContents::Data, Compression::None, PathBuf::new());
        let part = Part { path: path.clone(), holds, compression, size_bytes, inside };
        let cancel = Cancel::default();
        let mut surveyor = Surveyor::new(None, &cancel);
        let described = describe(&path, vec![part], false, Reach::Near, &mut surveyor, &cancel).unwrap();
        let Described::Backup(backup, _) = described else { panic!("it is nothing") };
        let expected = format!("{}: {}", path.display(), crate::source::holes::NOT_READ);
        assert!(backup.problems.contains(&expected), "{:?}", backup.problems);
    }
}
