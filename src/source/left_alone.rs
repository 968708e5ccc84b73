//! What lies between backups and is none: says what it is, by its name and its first bytes.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::catalog::{Compression, LeftAlone, Listing};

use super::compress;
use super::open_file;

/// What is said of a dump.
pub(super) const DUMP: &str = "a logical dump: it has no WAL position, and recovery cannot start from it";
/// So many files of one directory are named; of the others, how many there are.
const NAMED: usize = 20;
/// Bytes of a tar's first header.
const HEADER: u64 = 512;
/// Endings that editors give to what a file was before, and programs to what they have not finished.
const OF_EDITORS: [&str; 6] = ["~", ".swp", ".swo", ".swx", ".bak", ".orig"];
const OF_COPYING: [&str; 7] = [".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".incomplete"];

/// Notes what was left alone in one directory: some by name, the others by their number.
pub(super) struct Notes<'l> {
    listing: &'l mut Listing,
    directory: &'l Path,
    named: usize,
    more: u64,
    wal: u64,
}

impl<'l> Notes<'l> {
    pub(super) fn of(directory: &'l Path, listing: &'l mut Listing) -> Notes<'l> {
        Notes { listing, directory, named: 0, more: 0, wal: 0 }
    }

    pub(super) fn add(&mut self, name: &str, why: impl Into<String>) {
        if self.named >= NAMED {
            self.more += 1;
            return;
        }
        self.named += 1;
        self.listing.left_alone.push(LeftAlone { path: self.directory.join(name), why: why.into() });
    }

    /// A file of an archive: these are not named one by one.
    pub(super) fn add_wal(&mut self) {
        self.wal += 1;
    }

    /// Says how many there were that were not named.
    pub(super) fn close(self) {
        let path = self.directory.to_path_buf();
        let files = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        if self.wal > 0 {
            let why = format!("{} of a WAL archive: give the directory with --wal", files(self.wal, "file"));
            self.listing.left_alone.push(LeftAlone { path: path.clone(), why });
        }
        if self.more > 0 {
            let why = format!("{} more that are no backups", files(self.more, "file"));
            self.listing.left_alone.push(LeftAlone { path, why });
        }
    }
}

/// Why a file of this name is not even looked into: it is what somebody else left behind.
pub(super) fn by_name(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let is_of_rsync = || {
        let inner = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
        inner.is_some_and(|(stem, random)| {
            stem.contains('.') && random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    if OF_EDITORS.iter().any(|ending| lower.ends_with(ending)) || (name.starts_with('#') && name.ends_with('#')) {
        return Some("what an editor or somebody kept of a file");
    }
    if OF_COPYING.iter().any(|ending| lower.ends_with(ending)) || is_of_rsync() {
        return Some("a file that is half copied, by its name");
    }
    None
}

/// What a file is.
pub(super) enum File {
    /// A tar that is packed in this way, so many bytes long.
    Tar(Compression, u64),
    /// Something else.
    Nothing(String),
    /// Nobody can tell, since it cannot be read, in words that can follow its name and a colon.
    Unreadable(String),
}

/// Tells what a file is, by its first bytes. One that cannot be read is a tar where its name says so: there is a backup,
/// and what keeps it from being one that can be used is told with it.
pub(super) fn look(path: &Path, name: &str) -> File {
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error)
            if error.kind() != io::ErrorKind::PermissionDenied
                && fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink()) =>
        {
            return File::Nothing(format!("a link that leads nowhere: {error}"));
        }
        Err(error) => return unread(name, 0, &error),
    };
    if !kind.is_file() {
        let what = match () {
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return File::Nothing(what.to_owned());
    }
    let mut first_bytes = Vec::new();
    let opened = open_file(path).and_then(|mut file| {
        let bytes = file.metadata()?.len();
        file.by_ref().take(HEADER).read_to_end(&mut first_bytes)?;
        Ok(bytes)
    });
    let bytes = match opened {
        Ok(bytes) => bytes,
        Err(error) => return unread(name, fs::metadata(path).map_or(0, |metadata| metadata.len()), &error),
    };
    // By its contents: a name may be anything, and what unpacks it goes by what it is.
    let by_name = of_tar(name);
    let compression = match Compression::of_contents(&first_bytes) {
        Compression::None => by_name.unwrap_or(Compression::None),
        packed => packed,
    };
    let front = match compression {
        Compression::None => Ok(first_bytes),
        _ => compress::front(path, compression, HEADER),
    };
    match front {
        Ok(front) if is_tar(&front) => File::Tar(compression, bytes),
        Ok(front) => match of_contents(&front) {
            Some(what) => File::Nothing(what.to_owned()),
            // A tar that was cut off at its very beginning is a broken backup, and not nothing.
            None if by_name.is_some() => File::Tar(compression, bytes),
            None if bytes == 0 => File::Nothing("an empty file".to_owned()),
            None => File::Nothing("neither a tar nor a data directory".to_owned()),
        },
        Err(_) if by_name.is_some() => File::Tar(compression, bytes),
        Err(error) => File::Nothing(format!("it cannot be read: {error}")),
    }
}

/// What a file is that cannot be read, by its name; one that is gone by now is nothing.
fn unread(name: &str, bytes: u64, error: &io::Error) -> File {
    let why = format!("it cannot be read: {error}");
    match of_tar(name) {
        _ if error.kind() == io::ErrorKind::NotFound => File::Nothing(why),
        Some(compression) => File::Tar(compression, bytes),
        None => File::Unreadable(why),
    }
}

/// How a tar of this name is packed; `None` for a name that no tar has.
fn of_tar(name: &str) -> Option<Compression> {
    const SHORT: [(&str, Compression); 8] = [
        (".tgz", Compression::Gzip),
        (".taz", Compression::Gzip),
        (".tlz4", Compression::Lz4),
        (".tzst", Compression::Zstd),
        (".txz", Compression::Xz),
        (".tbz", Compression::Bzip2),
        (".tbz2", Compression::Bzip2),
        (".tb2", Compression::Bzip2),
    ];
    let (stem, compression) = Compression::of_name(name);
    if stem.ends_with(".tar") {
        return Some(compression);
    }
    SHORT.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, compression)| compression)
}

/// By the magic of POSIX and of GNU tar, at byte 257 of a header.
fn is_tar(front: &[u8]) -> bool {
    front.get(257..262) == Some(b"ustar")
}

/// What begins like this, where it is known: `pg_dump -Fc` and its table of contents (`WriteHead`,
/// `src/bin/pg_dump/pg_backup_archiver.c`), and what `pg_dump` and `pg_dumpall` write as SQL.
fn of_contents(front: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(front);
    let is_sql = text.contains("PostgreSQL database dump") || text.contains("PostgreSQL database cluster dump");
    (front.starts_with(b"PGDMP") || is_sql).then_some(DUMP)
}

/// What a directory is in which no backup was found, by the names in it; `None` where there are things in it that are
/// told of one by one.
pub(super) fn directory(path: &Path, names: &[String]) -> Option<&'static str> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if names.is_empty() {
        return Some("an empty directory");
    }
    if has("toc.dat") {
        return Some(DUMP);
    }
    if has("PG_VERSION") && path.join("PG_VERSION").is_file() {
        return Some("a part of a data directory: there is no directory global in it");
    }
    if names.iter().any(|name| super::survey::is_version_directory(name)) {
        return Some("the files of a tablespace, and not of a data directory");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_leave_behind_is_known_by_its_name() {
        for name in [
            "base.tar.gz~",
            ".base.tar.gz.swp",
            "#base.tar#",
            "base.tar.BAK",
            "base.tar.part",
            ".base.tar.gz.Ab12Cd",
            "x.tmp",
        ] {
            assert!(by_name(name).is_some(), "{name}");
        }
        for name in ["base.tar.gz", "monday", ".hidden", ".base.tar", "2026-11-20.tgz", ".v15.backup"] {
            assert_eq!(by_name(name), None, "{name}");
        }
    }

    /// As whoever may read everything, a test cannot meet such a file.
    #[test]
    fn what_cannot_be_read_is_a_tar_by_its_name_or_may_be_anything() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(unread("monday.tar", 7, &denied), File::Tar(Compression::None, 7)));
        assert!(matches!(unread("monday.tgz", 7, &denied), File::Tar(Compression::Gzip, 7)));
        assert!(
            matches!(unread("monday", 7, &denied), File::Unreadable(why) if why.starts_with("it cannot be read: "))
        );
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert!(matches!(unread("monday.tar", 7, &gone), File::Nothing(_)));
    }

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        let place = tempfile::tempdir().unwrap();
        let told = |name: &str, bytes: &[u8]| {
            let path = place.path().join(name);
            fs::write(&path, bytes).unwrap();
            match look(&path, name) {
                File::Tar(compression, bytes) => format!("{} {bytes}", compression.name()),
                File::Nothing(why) | File::Unreadable(why) => why,
            }
        };
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut tar::Header::new_gnu(), "PG_VERSION", &b""[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        assert_eq!(told("of no name that says it", &tar), format!("none {}", tar.len()));
        let packed = zstd::bulk::compress(&tar, 1).unwrap();
        assert!(told("x.tgz", &packed).starts_with("zstd"));
        assert!(told("y", &packed).starts_with("zstd"));
        assert!(told("cut off.tar.gz", &[]).starts_with("gzip"));
        for dump in [
            &b"PGDMP\x01\x0e\x00"[..],
            b"--\n-- PostgreSQL database dump\n--\n",
            b"--\n-- PostgreSQL database cluster dump\n",
        ] {
            assert_eq!(told("dump", dump), DUMP);
            assert_eq!(told("dump.sql.zst", &zstd::bulk::compress(dump, 1).unwrap()), DUMP);
        }
        assert_eq!(told("empty", b""), "an empty file");
        assert!(told("README", b"hello").contains("neither"));
    }
}
