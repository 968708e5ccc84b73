//! Backups and archives in directories.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::catalog::compression::names_of;
use crate::catalog::layout::path_in;
use crate::catalog::{Backup, BackupKind, Catalog, Compression, Layouts, Listing, PartContents};
use crate::config::SourceConfig;
use crate::core::{ArchiveFile, PlacedCommand, SegmentName, SegmentSize};
use crate::error::{Error, Result};
use crate::wal::SegmentHeader;

use super::backups::{self, Finder};
use super::base_backup::read_prefix;
use super::command::{Commands, Fetched};
use super::compress::{self, Count};
use super::identity::{self, Identity};
use super::survey::Surveyor;
use super::tar_backup::read_to_the_end;
use super::{Blocks, Cancel, Source, archive, blocks, open_file, unreadable};

/// The code of the error about a compressed segment that cannot be unpacked.
pub(crate) const SEGMENT_DAMAGED: &str = "segment-damaged";

/// An error about a segment that is not what it should be.
pub(super) fn segment_damaged(message: String) -> Error {
    Error::failed(SEGMENT_DAMAGED, message)
        .hint("get another copy of it, and give the archive that has it with another --wal")
}

/// Directories with base backups, and directories with WAL.
#[derive(Debug, Clone)]
pub struct LocalSource {
    name: String,
    backups: Vec<PathBuf>,
    wal: Vec<PathBuf>,
    /// Asked for what no directory has.
    commands: Arc<Commands>,
    /// Below it, what took long to find out is kept.
    cache: Option<PathBuf>,
    /// As the archives' segments say, once they have been listed.
    segment_size: OnceLock<SegmentSize>,
    /// The segments that the archives have as `.partial` only, once they have been listed.
    partials: OnceLock<BTreeSet<SegmentName>>,
    /// Where in each archive its files lie, once they have been listed.
    layouts: OnceLock<Vec<Layouts>>,
}

impl LocalSource {
    /// Over the directories of a configured source.
    #[must_use]
    pub fn new(config: &SourceConfig) -> LocalSource {
        LocalSource {
            name: config.name.clone(),
            backups: config.backups.clone(),
            wal: config.wal.clone(),
            commands: Arc::new(Commands::new(config)),
            cache: None,
            segment_size: OnceLock::new(),
            partials: OnceLock::new(),
            layouts: OnceLock::new(),
        }
    }

    /// How much its commands have fetched so far; `None` where it has none.
    #[must_use]
    pub fn fetched(&self) -> Option<Fetched> {
        (!self.commands.is_empty()).then(|| self.commands.fetched())
    }

    /// The same with a directory below which it keeps what took long to find out.
    #[must_use]
    pub fn remembering(self, cache: Option<&Path>) -> LocalSource {
        LocalSource { cache: cache.map(Path::to_owned), ..self }
    }

    fn list_backups(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        let surveyor = Surveyor::new(self.cache.as_deref(), cancel);
        let mut finder = Finder { archives: &self.wal, surveyor, cancel, seen: BTreeSet::new() };
        for root in &self.backups {
            let before = listing.backups.len();
            finder.find(root, listing)?;
            if listing.backups.len() == before {
                return Err(backups::none_at(root, listing));
            }
        }
        Ok(())
    }

    fn list_wal(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        let mut layouts = Vec::with_capacity(self.wal.len());
        for directory in &self.wal {
            layouts.push(archive::list(directory, listing, cancel)?);
        }
        let _ = self.layouts.set(layouts);
        Ok(())
    }
}

impl Source for LocalSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn backups(&self) -> &[PathBuf] {
        &self.backups
    }

    fn archives(&self) -> &[PathBuf] {
        &self.wal
    }

    fn commands(&self) -> &[PlacedCommand] {
        self.commands.placed()
    }

    fn list(&self, cancel: &Cancel) -> Result<Catalog> {
        let mut listing = Listing::default();
        self.commands.cancelled_by(cancel);
        self.list_wal(&mut listing, cancel)?;
        if let Some(size) = listing.segment_size {
            let _ = self.segment_size.set(size);
        }
        self.list_backups(&mut listing, cancel)?;
        for backup in &mut listing.backups {
            self.look_into_base(backup, cancel)?;
            self.ask_first_segment(backup);
            listing.segment_size = listing.segment_size.or(backup.segment_size);
        }
        self.commands.list(&mut listing, cancel)?;
        if let Some(size) = listing.segment_size {
            let _ = self.segment_size.set(size);
        }
        let catalog = Catalog::build(listing);
        let _ = self.partials.set(catalog.partials.clone());
        Ok(catalog)
    }

    fn open_segment(&self, name: SegmentName, backup: Option<&Backup>) -> Result<Option<Box<dyn Read + Send>>> {
        let archived = self.first_in_archives(name, &|found| match (found.path.as_path(), found.compression) {
            (path, Compression::None) => {
                let file = open_file(path)?;
                // The server refuses what was cut off (`RestoreArchivedFile`, `xlogarchive.c` of 13 to 18).
                let is_whole =
                    self.segment_size.get().is_none_or(|size| file.metadata().is_ok_and(|m| m.len() == size.bytes()));
                let is_it = is_whole && self.may_be(path, name);
                Ok(is_it.then(|| Box::new(file) as Box<dyn Read + Send>))
            }
            (path, compression) => {
                let open = if found.is_partial { compress::open_partial } else { compress::open_segment };
                open(path, compression, self.room_for(path, compression)?).map(Some)
            }
        });
        let archived = self.or_by_command(name, archived, |file| Box::new(file) as Box<dyn Read + Send>)?;
        if archived.is_some() {
            return Ok(archived);
        }
        match backup.filter(|backup| backup.own_wal.contains(&name)) {
            Some(backup) => open_own_segment(backup, name),
            None => Ok(None),
        }
    }

    fn open_blocks(&self, name: SegmentName) -> Result<Option<Box<dyn Blocks>>> {
        let archived = self.first_in_archives(name, &|Candidate { path, compression, is_partial }| {
            let compression = *compression;
            if compression == Compression::None {
                let blocks = blocks::open(path, compression, 0)?;
                return Ok(self.may_be(path, name).then_some(blocks));
            }
            let room = self.room_for(path, compression)?;
            if *is_partial {
                return blocks::open_partial(path, compression, room).map(Some);
            }
            let blocks = blocks::open(path, compression, room)?;
            let others = self.copies_behind(path, name);
            Ok(Some(if others.is_empty() { blocks } else { blocks::falling_back(blocks, others, room) }))
        });
        self.or_by_command(name, archived, |file| blocks::of_plain(Box::new(file)))
    }

    fn identities(&self, names: &[SegmentName]) -> Vec<Option<Identity>> {
        let archives: Vec<_> = self.archives_with_layouts().collect();
        let in_archives = identity::in_archives(&archives, names);
        if self.commands.is_empty() {
            return in_archives;
        }
        let all = names.iter().zip(in_archives);
        all.map(|(name, identity)| identity.or_else(|| self.commands.identity(*name))).collect()
    }
}

/// A file in which a segment may be.
struct Candidate {
    path: PathBuf,
    compression: Compression,
    is_partial: bool,
}

impl LocalSource {
    /// A segment that no directory has, or has whole, by a command.
    fn or_by_command<T>(
        &self,
        name: SegmentName,
        archived: Result<Option<T>>,
        open: impl FnOnce(std::fs::File) -> T,
    ) -> Result<Option<T>> {
        if matches!(archived, Ok(Some(_))) || self.commands.is_empty() {
            return archived;
        }
        let is_partial = self.partials.get().is_some_and(|partials| partials.contains(&name));
        match self.commands.open(name, is_partial)? {
            Some(file) => Ok(Some(open(file))),
            None => archived,
        }
    }

    /// What `open` makes of a segment's file, plain or compressed, in the first archive that has it whole, as far as
    /// can be seen; `open` gives `None` for one that is passed over.
    fn first_in_archives<T>(
        &self,
        name: SegmentName,
        open: &dyn Fn(&Candidate) -> std::io::Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut trouble = None;
        for mut found in self.candidates(name) {
            let size = self.segment_size.get().copied();
            let opened = compress::form_of(&found.path, found.compression, size).and_then(|form| {
                found.compression = form;
                open(&found)
            });
            match opened {
                Ok(Some(segment)) => return Ok(Some(segment)),
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // Another copy may be whole, as it may be to whoever restores.
                Err(error) => {
                    trouble.get_or_insert_with(|| unusable(&found, &error));
                }
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// The archives' directories, with where in each of them its files lie.
    fn archives_with_layouts(&self) -> impl Iterator<Item = (&Path, Layouts)> {
        let layouts = self.layouts.get().into_iter().flatten().copied();
        self.wal.iter().map(PathBuf::as_path).zip(layouts.chain(std::iter::repeat(Layouts::ANY)))
    }

    /// The files in which a segment may be, in the order in which they are asked.
    fn candidates(&self, name: SegmentName) -> impl Iterator<Item = Candidate> {
        let is_partial = self.partials.get().is_some_and(|partials| partials.contains(&name));
        let partial = || self.named(ArchiveFile::Partial(name));
        // What is received to its end is renamed, maybe just between looking for the one name and for the other.
        let again = || self.named(ArchiveFile::Segment(name));
        let others = is_partial.then(|| partial().chain(again())).into_iter().flatten();
        self.named(ArchiveFile::Segment(name)).chain(others)
    }

    /// The paths that a file may have.
    fn named(&self, file: ArchiveFile) -> impl Iterator<Item = Candidate> {
        let is_partial = matches!(file, ArchiveFile::Partial(_));
        self.archives_with_layouts().flat_map(move |(directory, layouts)| {
            layouts.places_of(file).flat_map(move |folder| {
                Compression::OF_SEGMENTS.into_iter().flat_map(move |compression| {
                    let path = move |name: String| directory.join(path_in(folder, &name));
                    let names = names_of(file, compression).into_iter();
                    names.map(move |name| Candidate { path: path(name), compression, is_partial })
                })
            })
        })
    }

    /// Whether a plain file is that segment, where another archive may have a better copy: a single archive's is what
    /// the server gets, whatever it is.
    fn may_be(&self, path: &Path, name: SegmentName) -> bool {
        if self.wal.len() + self.commands.len() < 2 {
            return true;
        }
        let header = compress::front(path, Compression::None, SegmentHeader::BYTES as u64);
        let header = header.ok().and_then(|front| SegmentHeader::parse(&front).ok());
        header.is_some_and(|header| header.pageaddr == name.start(header.segment_size))
    }

    /// The segment's files in the order in which they are asked, behind this one.
    fn copies_behind(&self, path: &Path, name: SegmentName) -> Vec<(PathBuf, Compression)> {
        if self.wal.len() < 2 {
            return Vec::new();
        }
        let size = self.segment_size.get().copied();
        let others = self.named(ArchiveFile::Segment(name)).skip_while(|copy| copy.path != path).skip(1);
        others
            .filter_map(|copy| {
                let form = compress::form_of(&copy.path, copy.compression, size).ok()?;
                Some((copy.path, form))
            })
            .collect()
    }

    /// How many bytes a compressed segment has, unpacked: before any was listed, as it says itself.
    fn room_for(&self, path: &Path, compression: Compression) -> std::io::Result<u64> {
        if let Some(size) = self.segment_size.get() {
            return Ok(size.bytes());
        }
        let front = compress::front(path, compression, SegmentHeader::BYTES as u64)?;
        let size = SegmentHeader::parse(&front).map_or(SegmentSize::DEFAULT, |header| header.segment_size);
        Ok(size.bytes())
    }

    /// Where the archives do not have the first segment that a backup needs, it may lie in the backup's own tar; and
    /// where a standby's backup ended, a compressed tar without a manifest says at its very end.
    fn look_into_base(&self, backup: &mut Backup, cancel: &Cancel) -> Result<()> {
        let Some(start) = backup.start_wal.filter(|_| backup.kind == BackupKind::Tar && backup.is_usable()) else {
            return Ok(());
        };
        let end_unknown = backup.from_standby && backup.stop_lsn.is_none();
        let wal_unknown = backup.own_wal.is_empty() && self.open_segment(start, None)?.is_none();
        if (end_unknown || wal_unknown)
            && let Err(error) = read_to_the_end(backup, &mut Surveyor::new(self.cache.as_deref(), cancel))
        {
            backup.problems.push(format!("{}: {error}", backup.location.display()));
        }
        cancel.check()
    }

    /// What a backup does not say itself, the segment at its start does: whose it is, and of which version.
    fn ask_first_segment(&self, backup: &mut Backup) {
        let complete =
            backup.pg_version.is_some() && backup.system_identifier.is_some() && backup.segment_size.is_some();
        let Some(start) = backup.start_wal.filter(|_| !complete && backup.is_usable()) else { return };
        if let Some(header) = self.header_of(start, Some(backup)) {
            backup.pg_version = backup.pg_version.or(Some(header.layout.major));
            backup.system_identifier = backup.system_identifier.or(Some(header.system_identifier));
            backup.segment_size = backup.segment_size.or(Some(header.segment_size));
        }
    }

    /// What a segment says of itself at its beginning, where it can be read.
    pub(super) fn header_of(&self, name: SegmentName, backup: Option<&Backup>) -> Option<SegmentHeader> {
        let mut segment = self.open_segment(name, backup).ok()??;
        SegmentHeader::parse(&read_prefix(&mut segment, SegmentHeader::BYTES).ok()?).ok()
    }
}

/// Why a file that is there gives no segment.
fn unusable(found: &Candidate, error: &std::io::Error) -> Error {
    let path = &found.path;
    // What the system says nothing about is in the file itself.
    if found.compression == Compression::None || error.raw_os_error().is_some() {
        return unreadable("a WAL segment", path, error);
    }
    Error::failed(SEGMENT_DAMAGED, format!("this WAL segment cannot be unpacked: {}", path.display()))
        .caused_by(error)
        .hint("get another copy of it, and give the archive that has it with another --wal")
}

/// A segment that the backup brought along: in its `pg_wal` directory, or inside `pg_wal.tar` or `base.tar`.
fn open_own_segment(backup: &Backup, name: SegmentName) -> Result<Option<Box<dyn Read + Send>>> {
    if backup.kind == BackupKind::Directory {
        let path = backup.location.join("pg_wal").join(name.to_string());
        let file = open_file(&path).map_err(|error| unreadable("a WAL segment", &path, &error))?;
        return Ok(Some(Box::new(file)));
    }
    let wal_part = backup.parts.iter().find(|part| part.holds == PartContents::Wal);
    let Some(part) = wal_part.or(backup.parts.first()) else { return Ok(None) };
    let wanted = match part.holds {
        PartContents::Wal => PathBuf::from(name.to_string()),
        _ => Path::new("pg_wal").join(name.to_string()),
    };
    let broken = |error: &std::io::Error| unreadable("the backup's WAL", &part.path, error);
    let reader = compress::open(&part.path, part.compression, &Count::default()).map_err(|error| broken(&error))?;
    let mut archive = tar::Archive::new(BufReader::new(reader));
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let path = entry.path().map_err(|error| broken(&error))?.into_owned();
        let is_it = part.name_inside(&path).is_some_and(|path| path.strip_prefix(".").unwrap_or(&path) == wanted);
        if is_it {
            // At most one segment, 1 GB, and never more than the tar really has.
            let mut bytes = Vec::new();
            entry.by_ref().take(1 << 30).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
            return Ok(Some(Box::new(std::io::Cursor::new(bytes))));
        }
    }
    Ok(None)
}
