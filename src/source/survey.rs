//! What lies in a tar, as far as that matters before it is unpacked: where in it a data directory is, its telling files,
//! its tablespaces and its WAL.
//!
//! A plain tar is hopped over to its end. A packed one has to be decompressed to be looked at, so that is ended as soon
//! as enough is known, and what had to be read further for is kept in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::EntryType;

use crate::catalog::{Compression, Part};
use crate::core::{Lsn, SegmentName};
use crate::pgdata::manifest::{Manifest, can_end_at};
use crate::wal::SegmentHeader;

use super::cache::Cache;
use super::compress::{self, Count};
use super::holes;
use super::{Cancel, open_file};

/// So much of a packed tar is read, in bytes of its contents, that has its label at its front: what `pg_basebackup`
/// writes, and what else is asked for stands in WAL too.
const FRONT: u64 = 64 << 20;
/// So much of another packed tar, in bytes of its contents: some seconds' work. xz and bzip2 take ten times as long as
/// the others.
const FAR: u64 = 2 << 30;
const FAR_OF_SLOW: u64 = 256 << 20;
/// The longest label, map, version, configuration or control file that is read.
const SMALL_FILE: u64 = 1 << 20;
/// The longest manifest in a tar that is read.
const MANIFEST: u64 = 64 << 20;
/// So many telling files are kept at most, and so many data directories and tablespaces.
const MOST: usize = 1000;
/// So many bytes of telling files are kept at most, of all together.
const KEPT: u64 = 64 << 20;
/// Counted up when a survey means something else than before.
const FORM: u8 = 2;

/// A tablespace as it lies in a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Held {
    /// A link to where it was.
    Link(String),
    /// Its files, which take so many bytes.
    Files(u64),
}

/// What was found in a tar. Names are without `./` and without a slash at the front.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Survey {
    /// The telling files by their names.
    files: BTreeMap<String, Vec<u8>>,
    /// The directories as the tar writes their names, by their names here, of those with a `global/pg_control` or one of
    /// the files.
    written: BTreeMap<String, PathBuf>,
    /// Segments, by the data directory in whose `pg_wal` they lie.
    wal: BTreeMap<String, BTreeSet<SegmentName>>,
    /// By the data directory and the OID.
    tablespaces: BTreeMap<(String, u32), Held>,
    /// The directories in which there is a `PG_15_202209061` that is in no `pg_tblspc`: each is a tablespace.
    versions: BTreeMap<String, PathBuf>,
    /// What a manifest in it says.
    pub(super) manifest: Option<Signed>,
    /// Bytes of all files but WAL.
    pub(super) bytes: u64,
    /// How many entries there were.
    pub(super) entries: u64,
    /// It begins with a `backup_label`, as the server writes it: the map of the tablespaces is next, where there is one.
    pub(super) label_first: bool,
    /// There was a name as data directories have them.
    pub(super) is_data_directory: bool,
    /// It was read to its end; else what was not found may still come.
    pub(super) whole: bool,
    /// Why it could not be, in words.
    pub(super) broken: Option<String>,
}

/// What a manifest says that lies in the tar itself, as `pg_basebackup` puts it there when it writes to its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    pub(super) system_identifier: Option<u64>,
    pub(super) end: Option<Lsn>,
}

/// What is known of where the data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In this directory.
    At(String),
    /// There are several.
    Several(Vec<String>),
    /// There is none, as far as was read.
    Nowhere,
}

impl Survey {
    /// Where the data directory lies in the tar.
    pub(super) fn place(&self) -> Place {
        let with = |file: &'static str| {
            let names = self.files.keys().filter_map(move |name| directory_of(name, file));
            names.map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let mut there = with("global/pg_control");
        if there.is_empty() && !self.whole {
            // It comes last in what pg_basebackup writes.
            there = with("backup_label").into_iter().chain(with("PG_VERSION")).collect();
        }
        match there.len() {
            0 => Place::Nowhere,
            1 => there.into_iter().next().map_or(Place::Nowhere, Place::At),
            _ => Place::Several(there.into_iter().collect()),
        }
    }

    /// How the tar writes the name of a directory.
    pub(super) fn written(&self, directory: &str) -> PathBuf {
        match directory {
            "" => PathBuf::new(),
            _ => self.written.get(directory).cloned().unwrap_or_else(|| directory.into()),
        }
    }

    /// A telling file of the data directory.
    pub(super) fn file(&self, directory: &str, name: &str) -> Option<&[u8]> {
        self.files.get(&below(directory, name)).map(Vec::as_slice)
    }

    /// Where else than there this file is.
    pub(super) fn elsewhere(&self, directory: &str, name: &str) -> Option<&str> {
        let own = below(directory, name);
        self.files.keys().map(String::as_str).find(|known| *known != own && directory_of(known, name).is_some())
    }

    /// The segments in the data directory's `pg_wal`.
    pub(super) fn wal(&self, directory: &str) -> impl Iterator<Item = SegmentName> {
        self.wal.get(directory).into_iter().flatten().copied()
    }

    /// The tablespaces in the data directory's `pg_tblspc`.
    pub(super) fn tablespaces(&self, directory: &str) -> impl Iterator<Item = (u32, &Held)> {
        self.tablespaces.iter().filter(move |((of, _), _)| of == directory).map(|((_, oid), held)| (*oid, held))
    }

    /// The directory in the tar that is a tablespace, as the tar writes it, where there is just one.
    pub(super) fn tablespace(&self) -> Option<&Path> {
        let mut all = self.versions.values();
        all.next().filter(|_| all.next().is_none()).map(PathBuf::as_path)
    }

    /// The manifest in it, where that can be of the base backup that starts here, see [`can_end_at`]. Of one whose label is not
    /// there, nobody knows.
    pub(super) fn manifest_of(&self, start: Option<Lsn>) -> Option<&Signed> {
        let start = start?;
        self.manifest.as_ref().filter(|signed| can_end_at(signed.end, start))
    }

    /// Whether there is such a file at any place.
    pub(super) fn has(&self, name: &str) -> bool {
        self.elsewhere("\0", name).is_some()
    }

    /// Takes an entry in.
    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        self.entries += 1;
        let path = entry.path()?.into_owned();
        let Some(name) = normal(&path) else { return Ok(()) };
        self.take_tablespace(&name, entry)?;
        self.is_data_directory |= is_of_data_directory(&name);
        if !is_file(entry.header().entry_type()) {
            return Ok(());
        }
        if entry.pax_extensions()?.into_iter().flatten().flatten().any(|one| holes::is_of_holes(one.key_bytes())) {
            self.broken = Some(holes::NOT_READ.to_owned());
        }
        let (directory, file) = name.rsplit_once('/').unwrap_or(("", &name));
        let in_wal = directory == "pg_wal" || directory.ends_with("/pg_wal");
        if !in_wal {
            self.bytes = self.bytes.saturating_add(entry.size());
        }
        if let Some(segment) = SegmentName::parse(file).filter(|_| in_wal)
            && is_written(segment, &prefix(entry, SegmentHeader::BYTES as u64)?)
        {
            let of = directory_of(directory, "pg_wal").unwrap_or_default();
            self.wal.entry(of.to_owned()).or_default().insert(segment);
        }
        if file == "backup_manifest" && entry.size() <= MANIFEST && self.manifest.is_none() {
            self.manifest = Manifest::parse(&prefix(entry, MANIFEST)?)
                .ok()
                .map(|manifest| Signed { system_identifier: manifest.system_identifier, end: manifest.end() });
        }
        let kept: u64 = self.files.values().map(|bytes| bytes.len() as u64).sum();
        let is_too_much = kept.saturating_add(entry.size().min(SMALL_FILE)) > KEPT;
        if !is_telling(&name) || self.files.len() >= MOST || is_too_much {
            return Ok(());
        }
        self.label_first |= name == "backup_label" && self.entries == 1;
        let of = directory_of(&name, "global/pg_control").unwrap_or(directory);
        let climbs = name.get(of.len()..).unwrap_or_default().split('/').filter(|part| !part.is_empty()).count();
        self.written.entry(of.to_owned()).or_insert_with(|| ancestor(&path, climbs));
        self.files.insert(name, prefix(entry, SMALL_FILE)?);
        Ok(())
    }

    fn take_tablespace<R: Read>(&mut self, name: &str, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let parts: Vec<&str> = name.split('/').collect();
        let at = parts.iter().position(|part| *part == "pg_tblspc");
        let Some(at) = at else {
            if let Some(at) =
                parts.iter().position(|part| is_version_directory(part)).filter(|_| self.versions.len() < MOST)
            {
                let of = parts.get(..at).unwrap_or_default().join("/");
                let path = entry.path()?.into_owned();
                self.versions.entry(of).or_insert_with(|| ancestor(&path, parts.len() - at));
            }
            return Ok(());
        };
        let oid = parts.get(at + 1).and_then(|oid| oid.parse().ok());
        let Some(oid) = oid.filter(|_| self.tablespaces.len() < MOST) else { return Ok(()) };
        let key = (parts.get(..at).unwrap_or_default().join("/"), oid);
        let kind = entry.header().entry_type();
        if parts.len() == at + 2 && kind.is_symlink() {
            let target = entry.link_name()?.map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
            self.tablespaces.insert(key, Held::Link(target));
        } else if let Held::Files(bytes) = self.tablespaces.entry(key).or_insert(Held::Files(0))
            && is_file(kind)
        {
            *bytes = bytes.saturating_add(entry.size());
        }
        Ok(())
    }

    /// Takes all entries in until `stop` says that it is enough.
    fn take_all<R: Read>(
        &mut self,
        entries: tar::Entries<'_, R>,
        stop: &dyn Fn(&Survey) -> bool,
        cancel: &Cancel,
    ) -> io::Result<()> {
        for entry in entries {
            let mut entry = entry?;
            self.take(&mut entry)?;
            if cancel.is_cancelled() || stop(self) {
                return Ok(());
            }
        }
        self.whole = true;
        Ok(())
    }
}

/// How much of what is asked for is known of a tar that begins with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Too little.
    Nothing,
    /// Where its tablespaces are. What else is asked for stands in WAL too: that is not worth reading on for.
    Tablespaces,
    /// All of it.
    All,
}

/// How far a packed tar is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Until what is asked for was found; where that is not at the front, some seconds.
    Near,
    /// Until that was found, however long it takes.
    Far,
    /// To its end, however long that takes.
    ToTheEnd,
}

/// Looks into tars, and keeps what it took long to find.
pub(super) struct Surveyor<'a> {
    directory: Option<&'a Path>,
    cache: Option<Cache>,
    cancel: &'a Cancel,
}

impl<'a> Surveyor<'a> {
    /// `cache`: the directory below which things are kept, where they are.
    pub(super) fn new(cache: Option<&'a Path>, cancel: &'a Cancel) -> Surveyor<'a> {
        Surveyor { directory: cache, cache: None, cancel }
    }

    /// Looks into the tar of a part until as much is `known` of it as is asked for. What it cannot tell is in the survey;
    /// so is that it was cancelled: nothing more was read then.
    pub(super) fn look(&mut self, part: &Part, reach: Reach, known: &dyn Fn(&Survey) -> Known) -> Survey {
        if part.compression == Compression::None {
            let mut survey = Survey::default();
            let walked = hop_over(&mut survey, part, self.cancel);
            survey.broken = walked.err().map(|error| error.to_string()).or(survey.broken);
            return survey;
        }
        let before = identity(&part.path);
        if let Some(kept) = before.as_ref().and_then(|identity| self.kept(part, identity))
            && (kept.whole || kept.broken.is_some() || reach == Reach::Near)
        {
            return kept;
        }
        let stop = |survey: &Survey| survey.label_first && known(survey) == Known::All;
        if reach != Reach::ToTheEnd {
            let front = self.unpack(part, FRONT, &stop);
            let foreign = reach == Reach::Near && !front.is_data_directory && front.broken.is_none();
            // What was found here is soon found again.
            if front.whole || foreign || (front.label_first && known(&front) != Known::Nothing) {
                return front;
            }
        }
        let limit = match (reach, part.compression) {
            (Reach::Far | Reach::ToTheEnd, _) => u64::MAX,
            (Reach::Near, Compression::Xz | Compression::Bzip2) => FAR_OF_SLOW,
            (Reach::Near, _) => FAR,
        };
        let survey = self.unpack(part, limit, &|survey| reach != Reach::ToTheEnd && stop(survey));
        if !self.cancel.is_cancelled()
            && let Some(before) = before.filter(|before| identity(&part.path).as_ref() == Some(before))
        {
            self.keep(part, &before, &survey);
        }
        survey
    }

    /// Reads so much of a packed tar's contents, at most.
    fn unpack(&self, part: &Part, limit: u64, stop: &dyn Fn(&Survey) -> bool) -> Survey {
        let mut survey = Survey::default();
        match unpack(&mut survey, part, limit, stop, self.cancel) {
            // Where the search ends, the tar seems to be cut off, and where it ends between two entries, whole.
            Ok(left) | Err((_, left)) if left == 0 => survey.whole = false,
            Ok(_) => {}
            Err((error, _)) => survey.broken = Some(in_words(&error)),
        }
        survey
    }

    /// Looks at the front of a part's tar, until `enough` is known of it; over a plain one to its end.
    pub(super) fn look_at_front(&mut self, part: &Part, enough: &dyn Fn(&Survey) -> bool) -> Survey {
        match part.compression {
            Compression::None => self.look(part, Reach::Near, &|_| Known::Nothing),
            _ => self.unpack(part, FRONT, enough),
        }
    }

    fn cache(&mut self) -> Option<&mut Cache> {
        let directory = self.directory?;
        Some(self.cache.get_or_insert_with(|| Cache::open(Some(directory))))
    }

    fn kept(&mut self, part: &Part, identity: &[u8]) -> Option<Survey> {
        let (digest, survey) = self.cache()?.overview(&key(part))?;
        if digest == identity { postcard::from_bytes(&survey).ok() } else { None }
    }

    fn keep(&mut self, part: &Part, identity: &[u8], survey: &Survey) {
        if let (Ok(bytes), Some(cache)) = (postcard::to_stdvec(survey), self.cache()) {
            cache.keep_overview(&key(part), identity, &bytes);
        }
    }
}

fn key(part: &Part) -> Vec<u8> {
    [b"tar\0", part.path.as_os_str().as_bytes()].concat()
}

/// What tells whether a file is still the one that was read.
fn identity(path: &Path) -> Option<Vec<u8>> {
    let stat = std::fs::metadata(path).ok()?;
    let changed = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()].map(|time| time as u64);
    let words = [stat.dev(), stat.ino(), stat.len()].into_iter().chain(changed);
    Some(std::iter::once(FORM).chain(words.flat_map(u64::to_le_bytes)).collect())
}

/// Hops over a whole plain tar: its end must be there.
fn hop_over(survey: &mut Survey, part: &Part, cancel: &Cancel) -> io::Result<()> {
    let cut_off = || io::Error::other("the file is cut off: the tar does not come to its end");
    let mut archive = tar::Archive::new(open_file(&part.path)?);
    let walked = survey.take_all(archive.entries_with_seek()?, &|_| false, cancel);
    if cancel.is_cancelled() {
        return Ok(());
    }
    walked.map_err(|_| cut_off())?;
    // Behind the last entry and its padding come 1024 zero bytes, and half of them were read. Where the entry ends is not
    // asked for: how long it is says nothing of that where it has holes.
    let read = archive.into_inner().stream_position()?;
    if survey.entries > 0 && part.size_bytes >= read.saturating_add(512) {
        return Ok(());
    }
    survey.whole = false;
    Err(cut_off())
}

/// Gives how many bytes more might have been read.
fn unpack(
    survey: &mut Survey,
    part: &Part,
    limit: u64,
    stop: &dyn Fn(&Survey) -> bool,
    cancel: &Cancel,
) -> Result<u64, (io::Error, u64)> {
    let reader = compress::open(&part.path, part.compression, &Count::default()).map_err(|error| (error, limit))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(256 << 10, reader.take(limit)));
    let walked = archive.entries().and_then(|entries| survey.take_all(entries, stop, cancel));
    let mut rest = archive.into_inner().into_inner();
    walked.map_err(|error| (error, rest.limit()))?;
    // The checksum of what was packed comes behind the tar's end.
    if survey.whole && !cancel.is_cancelled() {
        io::copy(&mut rest, &mut io::sink()).map_err(|error| (error, rest.limit()))?;
    }
    Ok(rest.limit())
}

fn in_words(error: &io::Error) -> String {
    if compress::is_cut_off(error) { "the file is cut off".to_owned() } else { error.to_string() }
}

fn prefix<R: Read>(entry: &mut tar::Entry<'_, R>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether an entry is a file, as unpacking sees it.
fn is_file(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse)
}

/// Whether a segment has WAL of its own, and is not one of those that wait in `pg_wal` to be written.
fn is_written(segment: SegmentName, front: &[u8]) -> bool {
    SegmentHeader::parse(front).is_ok_and(|header| header.pageaddr == segment.start(header.segment_size))
}

/// Whether any part of a name is one of those that only data directories have.
fn is_of_data_directory(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "PG_VERSION",
        "pg_xact",
        "pg_multixact",
        "pg_tblspc",
        "pg_wal",
        "backup_label",
        "pg_control",
        "pg_filenode.map",
    ];
    name.split('/').any(|part| NAMES.contains(&part) || is_version_directory(part))
}

/// The names in a path, from the top; `None` where it climbs up.
fn normal(path: &Path) -> Option<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(names.join("/"))
}

/// A path without its last names.
fn ancestor(path: &Path, names: usize) -> PathBuf {
    path.ancestors().nth(names).unwrap_or(Path::new("")).to_owned()
}

/// `main`, `base/1` → `main/base/1`
fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// `main/global/pg_control`, `global/pg_control` → `main`
fn directory_of<'n>(name: &'n str, file: &str) -> Option<&'n str> {
    let before = name.strip_suffix(file)?;
    if before.is_empty() { Some(before) } else { before.strip_suffix('/') }
}

/// Whether a file says something about a backup. Every database has a `PG_VERSION` of its own, too.
fn is_telling(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    let (file, directory, above) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    match file {
        "backup_label" | "tablespace_map" | "postgresql.conf" | "postgresql.auto.conf" | "toc.dat" => true,
        "pg_control" => directory == Some("global"),
        "PG_VERSION" => {
            let of_a_database = directory.is_some_and(|oid| oid.bytes().all(|byte| byte.is_ascii_digit()))
                && above.is_some_and(|above| above == "base" || is_version_directory(above));
            !of_a_database
        }
        _ => false,
    }
}

/// `PG_15_202209061`, in which a tablespace has its files (`TABLESPACE_VERSION_DIRECTORY`, `src/include/common/relpath.h`).
pub(super) fn is_version_directory(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("PG_").and_then(|rest| rest.split_once('_'));
    numbers.is_some_and(|(major, catalog)| is_number(major) && is_number(catalog))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::catalog::PartContents;

    fn part(place: &Path, files: &[(&str, usize)], compression: Compression) -> Part {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(*bytes as u64);
            // As tar -P writes it: the crate would refuse such names.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, vec![b'1'; *bytes].as_slice()).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let path = place.join("a tar");
        let bytes = if compression == Compression::None { tar } else { zstd::bulk::compress(&tar, 1).unwrap() };
        std::fs::write(&path, &bytes).unwrap();
        let (holds, inside) = (PartContents::Data, PathBuf::new());
        Part { path, holds, compression, size_bytes: bytes.len() as u64, inside }
    }

    fn survey(files: &[(&str, usize)], compression: Compression) -> Survey {
        let place = tempfile::tempdir().unwrap();
        let part = part(place.path(), files, compression);
        Surveyor::new(None, &Cancel::default()).look(&part, Reach::Near, &|survey| match survey.has("PG_VERSION") {
            true => Known::All,
            false => Known::Nothing,
        })
    }

    #[test]
    fn the_data_directory_is_found_wherever_it_lies() {
        for (top, written) in [("", ""), ("./", ""), ("main/", "main"), ("./a/b/", "./a/b"), ("/srv/pg/", "/srv/pg")] {
            let name = |file: &str| format!("{top}{file}");
            let names =
                ["base/5/PG_VERSION", "PG_VERSION", "pg_tblspc/16385/PG_15_1/5/PG_VERSION", "global/pg_control"];
            let names: Vec<String> = names.into_iter().map(name).chain(["beside/x".to_owned()]).collect();
            let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 2)).collect();
            for compression in [Compression::None, Compression::Zstd] {
                let survey = survey(&files, compression);
                let Place::At(directory) = survey.place() else { panic!("{top}: {survey:?}") };
                assert_eq!(survey.written(&directory), PathBuf::from(written), "{top}");
                assert!(survey.whole && survey.file(&directory, "PG_VERSION").is_some());
                let held: Vec<_> = survey.tablespaces(&directory).collect();
                assert_eq!(held, [(16385, &Held::Files(2))], "{top}");
            }
        }
        let two = survey(&[("a/global/pg_control", 2), ("b/global/pg_control", 2)], Compression::None);
        assert_eq!(two.place(), Place::Several(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(survey(&[("a/../global/pg_control", 2)], Compression::None).place(), Place::Nowhere);
    }

    #[test]
    fn what_begins_with_its_label_is_not_read_to_its_end() {
        let files = [("backup_label", 9), ("PG_VERSION", 3), ("base/5/1", 9000), ("global/pg_control", 8192)];
        let front = survey(&files, Compression::Zstd);
        assert!(!front.whole && front.label_first && front.entries == 2, "{front:?}");
        assert!(survey(&files, Compression::None).whole, "a plain tar is hopped over");
        let late: Vec<(&str, usize)> = files.into_iter().rev().collect();
        assert!(survey(&late, Compression::Zstd).whole);
    }

    /// What `tar` makes of a data directory whose `pg_control` and whose last file have holes: more than fit into one
    /// header.
    fn with_holes(place: &Path, format: &str) -> Part {
        let data = place.join("data");
        std::fs::create_dir_all(data.join("global")).unwrap();
        std::fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        for (name, stretches) in [("global/pg_control", 1), ("last", 40)] {
            let file = std::fs::File::create(data.join(name)).unwrap();
            for stretch in 0..stretches {
                file.write_all_at(b"here", stretch << 16).unwrap();
            }
            file.set_len(16 << 20).unwrap();
        }
        let path = place.join("holes.tar");
        let mut tar = std::process::Command::new("tar");
        tar.args(["--sparse", "--hole-detection=raw", "--blocking-factor=2", format, "-cf"]).arg(&path);
        let made = tar.arg("-C").arg(&data).args(["PG_VERSION", "global", "last"]).status().unwrap();
        assert!(made.success());
        let size_bytes = std::fs::metadata(&path).unwrap().len();
        assert!(size_bytes < 1 << 20, "it has holes");
        let (holds, inside) = (PartContents::Data, PathBuf::new());
        Part { path, holds, compression: Compression::None, size_bytes, inside }
    }

    fn look_at(part: &Part) -> Survey {
        Surveyor::new(None, &Cancel::default()).look(part, Reach::Near, &|_| Known::Nothing)
    }

    #[test]
    fn a_tar_whose_last_file_has_holes_comes_to_its_end_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let mut part = with_holes(place.path(), "--format=gnu");
        let survey = look_at(&part);
        assert_eq!((survey.broken.as_deref(), survey.whole), (None, true));
        assert_eq!(survey.bytes, (32 << 20) + 3);
        assert_eq!(survey.place(), Place::At(String::new()));
        let file = std::fs::OpenOptions::new().write(true).open(&part.path).unwrap();
        for bytes in [512, 1024, 1536] {
            file.set_len(part.size_bytes - 512).unwrap();
            part.size_bytes -= 512;
            let broken = look_at(&part).broken;
            assert!(broken.as_ref().is_some_and(|why| why.contains("cut off")), "{bytes}: {broken:?}");
        }
    }

    #[test]
    fn holes_in_the_format_that_is_not_read_are_said_before_it_is_unpacked() {
        let place = tempfile::tempdir().unwrap();
        let mut part = with_holes(place.path(), "--format=posix");
        assert_eq!(look_at(&part).broken.as_deref(), Some(holes::NOT_READ));
        let packed = zstd::bulk::compress(&std::fs::read(&part.path).unwrap(), 1).unwrap();
        std::fs::write(&part.path, &packed).unwrap();
        (part.compression, part.size_bytes) = (Compression::Zstd, packed.len() as u64);
        assert_eq!(look_at(&part).broken.as_deref(), Some(holes::NOT_READ));
    }

    #[test]
    fn what_is_kept_of_a_tar_has_its_limit() {
        let names: Vec<String> = (0..70).map(|number| format!("{number}/postgresql.conf")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1 << 20)).collect();
        let survey = survey(&files, Compression::None);
        assert!(survey.whole && survey.entries == 70);
        let kept: u64 = survey.files.values().map(|bytes| bytes.len() as u64).sum();
        assert_eq!(kept, KEPT);
    }

    #[test]
    fn a_tablespace_is_known_by_the_directory_of_its_version() {
        let own =
            survey(&[("fast/PG_15_202209061/5/16390", 2), ("fast/PG_15_202209061/5/16391", 2)], Compression::None);
        assert_eq!((own.tablespace(), own.place()), (Some(Path::new("fast")), Place::Nowhere));
        for name in ["PG_15", "PG_VERSION", "PG_x_1", "pg_15_1", "PG_15_"] {
            assert!(!is_version_directory(name), "{name}");
        }
    }
}
