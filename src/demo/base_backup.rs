//! Takes a base backup as `pg_basebackup -Ft -z` lays it out, with the server's own functions: the low-level way of
//! PostgreSQL's manual, for machines that have the server's programs and not the client's.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::core::Zone;
use crate::engine::host::{Host, now};
use crate::error::{Error, Result};

use super::cluster::Cluster;

/// What a base backup leaves out, as names of files or directories; of directories, what is in them
/// (`excludeFiles`, `excludeDirContents`; `src/backend/backup/basebackup.c`).
const LEFT_OUT: [&str; 6] =
    ["postmaster.pid", "postmaster.opts", "postgresql.auto.conf.tmp", "backup_label", "tablespace_map", "pgsql_tmp"];
const EMPTIED: [&str; 8] =
    ["pg_wal", "pg_stat_tmp", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans"];
/// It goes last: what it says must not be older than the rest.
const CONTROL_FILE: &str = "global/pg_control";
/// Zeros at the end of a tar.
const BLOCK: usize = 512;

/// A base backup that was taken.
pub struct Taken {
    /// Its name: when it was begun.
    pub id: String,
    /// Its size on disk.
    pub bytes: u64,
}

/// Takes one into a new directory below `backups`, named after the time in `zone`.
///
/// # Errors
/// When the server refuses, or a file cannot be read or written.
pub fn take(host: &Host, cluster: &Cluster, backups: &Path, zone: Zone) -> Result<Taken> {
    let (start, stop) = functions(cluster);
    let id: String = now().in_zone(zone).chars().take(19).collect::<String>().replace(' ', "_").replace(':', "-");
    let directory = backups.join(&id);
    host.make_directory(&directory, &cluster.account)?;
    // The connection that starts a backup has to be the one that stops it.
    let session = cluster.session("postgres")?;
    session.run(start)?;
    // The label comes first in the tar, and the server gives it last. The cluster is small enough to wait in memory.
    let data = collect(&cluster.data)?;
    let label: String = session.value(stop)?;
    let path = directory.join("base.tar.gz");
    let file = host.create_file(&path, 0o600, &cluster.account)?;
    let bytes = write(file, &label, &data, &cluster.data)
        .map_err(|error| Error::failed("cannot-write", format!("cannot write {}", path.display())).caused_by(&error))?;
    Ok(Taken { id, bytes })
}

/// What starts a backup, and what stops it and gives its label.
fn functions(cluster: &Cluster) -> (&'static str, &'static str) {
    if cluster.major.has_pg_backup_start() {
        ("SELECT pg_backup_start('walback demo', true)", "SELECT labelfile FROM pg_backup_stop(true)")
    } else {
        ("SELECT pg_start_backup('walback demo', true, false)", "SELECT labelfile FROM pg_stop_backup(false, true)")
    }
}

fn write(file: fs::File, label: &str, data: &[u8], owner: &Path) -> io::Result<u64> {
    let mut tar = tar::Builder::new(GzEncoder::new(BufWriter::new(file), Compression::fast()));
    let owner = fs::metadata(owner)?;
    append(&mut tar, Path::new("backup_label"), &owner, Some(label.as_bytes()))?;
    tar.get_mut().write_all(data)?;
    let file = tar.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// The entries of a tar with everything in a data directory that belongs into a base backup, without the tar's end.
fn collect(data: &Path) -> Result<Vec<u8>> {
    let read = || {
        let mut tar = tar::Builder::new(Vec::new());
        walk(&mut tar, data, Path::new(""))?;
        add(&mut tar, data, Path::new(CONTROL_FILE))?;
        tar.into_inner()
    };
    let mut entries = read().map_err(|error: io::Error| {
        Error::failed("unreadable", format!("cannot read the data directory: {}", data.display())).caused_by(&error)
    })?;
    entries.truncate(entries.len().saturating_sub(2 * BLOCK));
    Ok(entries)
}

fn walk(tar: &mut tar::Builder<Vec<u8>>, data: &Path, below: &Path) -> io::Result<()> {
    let entries = fs::read_dir(data.join(below))?;
    let mut names: Vec<_> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let text = name.to_string_lossy();
        let path = below.join(&name);
        let left_out = LEFT_OUT.iter().any(|left_out| text == *left_out) || text.starts_with("pg_internal.init");
        if left_out || path == Path::new(CONTROL_FILE) {
            continue;
        }
        add(tar, data, &path)?;
        if EMPTIED.iter().any(|emptied| path == Path::new(emptied)) {
            if text == "pg_wal" {
                add(tar, data, &path.join("archive_status"))?;
            }
        } else if data.join(&path).is_dir() {
            walk(tar, data, &path)?;
        }
    }
    Ok(())
}

/// Adds a directory or a file; one that the server has removed meanwhile is made good by WAL.
fn add(tar: &mut tar::Builder<Vec<u8>>, data: &Path, path: &Path) -> io::Result<()> {
    let full = data.join(path);
    let read = fs::symlink_metadata(&full).and_then(|metadata| {
        let contents = if metadata.is_file() { Some(fs::read(&full)?) } else { None };
        Ok((metadata, contents))
    });
    match read {
        Ok((metadata, contents)) if metadata.is_dir() || metadata.is_file() => {
            append(tar, path, &metadata, contents.as_deref())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// An entry that belongs to whoever owns `like`: a file with its contents, or a directory.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &Path,
    like: &fs::Metadata,
    contents: Option<&[u8]>,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    let kind = if contents.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
    header.set_entry_type(kind);
    header.set_mode(if contents.is_some() { 0o600 } else { 0o700 });
    header.set_uid(like.uid().into());
    header.set_gid(like.gid().into());
    header.set_mtime(like.mtime().max(0).unsigned_abs());
    header.set_size(contents.map_or(0, |contents| contents.len() as u64));
    tar.append_data(&mut header, path, contents.unwrap_or_default())
}
