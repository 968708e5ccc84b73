//! Base backups, as `pg_basebackup` makes them and, for majors that the system's refuses, as SQL and `tar` do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::cluster::Cluster;
use super::run;
use super::server::as_server;

/// How a backup is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `base.tar`.
    Tar,
    /// `base.tar.gz`.
    TarGz,
    /// A directory.
    Plain,
}

/// A base backup.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The directory that holds its files.
    pub path: PathBuf,
    /// How.
    pub format: Format,
}

/// What a base backup leaves out: the contents of these directories and these files (`excludeDirContents` and
/// `excludeFiles` in `src/backend/backup/basebackup.c`).
const LEFT_OUT: [&str; 11] = [
    "pg_wal/*",
    "pg_replslot/*",
    "pg_dynshmem/*",
    "pg_notify/*",
    "pg_serial/*",
    "pg_snapshots/*",
    "pg_stat_tmp/*",
    "pg_subtrans/*",
    "pg_internal.init",
    "postmaster.pid",
    "postmaster.opts",
];

impl Cluster<'_> {
    /// Takes a base backup to `DIRECTORY/backups/name`, labelled `name`.
    ///
    /// By `pg_basebackup` it has a manifest and, as `-X stream` does, the WAL it needs. Where none talks to this major
    /// the same files are made without them, as backups by SQL and a copy of the files are: the archive is needed.
    #[track_caller]
    pub fn base_backup(&self, format: Format, name: &str) -> Backup {
        self.backup_with(format, name, "stream")
    }

    /// The same without any WAL: recovery needs the archive from the backup's start on.
    #[track_caller]
    pub fn base_backup_without_wal(&self, format: Format, name: &str) -> Backup {
        self.backup_with(format, name, "none")
    }

    #[track_caller]
    fn backup_with(&self, format: Format, name: &str, wal: &str) -> Backup {
        if self.server.pg_basebackup().is_some() {
            return self.base_backup_by(format, name, &["-X", wal]);
        }
        let backup = self.place_for(format, name);
        self.copy_by_sql(&backup, name, || ());
        backup
    }

    /// Takes one by `pg_basebackup` with more options of its own.
    #[track_caller]
    pub fn base_backup_by(&self, format: Format, name: &str, options: &[&str]) -> Backup {
        let backup = self.place_for(format, name);
        let mut command = self.server.pg_basebackup().expect("pg_basebackup");
        command.arg("-D").arg(&backup.path).args(["-d", &self.connection(), "-l", name, "-c", "fast"]);
        command.args(match format {
            Format::Tar => &["-Ft"][..],
            Format::TarGz => &["-Ft", "-z"],
            Format::Plain => &["-Fp"],
        });
        run(command.args(options));
        backup
    }

    fn place_for(&self, format: Format, name: &str) -> Backup {
        self.directory().create("backups");
        Backup { path: self.directory().create(&format!("backups/{name}")), format }
    }

    /// Takes one as scripts do, by SQL and a copy of the files, and does something before the copy is made. It has no
    /// manifest and no WAL.
    #[track_caller]
    pub fn base_backup_by_sql(&self, format: Format, name: &str, meanwhile: impl FnOnce()) -> Backup {
        let backup = self.place_for(format, name);
        self.copy_by_sql(&backup, name, meanwhile);
        backup
    }

    #[track_caller]
    fn copy_by_sql(&self, backup: &Backup, name: &str, meanwhile: impl FnOnce()) {
        let copy = self.directory().create(&format!("backups/.{name}"));
        let mut session = self.session();
        let (start, stop) = match self.server.major {
            // Not exclusive, as it is always from 15 on.
            13 | 14 => ("pg_start_backup('NAME', true, false)", "pg_stop_backup(false, false)"),
            _ => ("pg_backup_start('NAME', true)", "pg_backup_stop(false)"),
        };
        session.query(&format!("select {};", start.replace("NAME", name)));
        meanwhile();
        copy_files(&self.data, &copy);
        // Waiting by ourselves, since the function asks the archive only once a second.
        let stopped = session.query(&format!("select lsn, '<label>', labelfile, '<map>', spcmapfile from {stop};"));
        let (stop, files) = stopped.split_once("|<label>|").unwrap();
        let (label, map) = files.split_once("|<map>|").unwrap();
        let tablespaces = self.copy_tablespaces(name, map);
        self.wait_archived(&self.segment_before(stop.parse().unwrap()));
        self.directory().write(&format!("backups/.{name}/backup_label"), label);
        if backup.format == Format::Plain {
            for (oid, copied) in &tablespaces {
                let link = copy.join("pg_tblspc").join(oid);
                fs::remove_file(&link).unwrap();
                symlink(copied, link).unwrap();
            }
            fs::remove_dir(&backup.path).unwrap();
            return fs::rename(&copy, &backup.path).unwrap();
        }
        if !tablespaces.is_empty() {
            self.directory().write(&format!("backups/.{name}/tablespace_map"), format!("{map}\n"));
        }
        let mut parts = vec![("base".to_owned(), copy.clone())];
        for (oid, copied) in tablespaces {
            fs::remove_file(copy.join("pg_tblspc").join(&oid)).unwrap();
            parts.push((oid, copied));
        }
        for (stem, copied) in parts {
            let tar = backup.path.join(format!("{stem}.tar"));
            tar_like_the_server(&copied, &tar);
            if backup.format == Format::TarGz {
                run(as_server("gzip").arg(tar));
            }
            fs::remove_dir_all(&copied).unwrap();
        }
    }

    /// Copies the tablespaces of a `tablespace_map`, each to a directory beside the backup, and gives their OIDs with
    /// these.
    #[track_caller]
    fn copy_tablespaces(&self, name: &str, map: &str) -> Vec<(String, PathBuf)> {
        let copy = |line: &str| {
            let (oid, location) = line.split_once(' ').unwrap();
            let copied = self.directory().create(&format!("{name}.{oid}"));
            copy_files(Path::new(location), &copied);
            (oid.to_owned(), copied)
        };
        map.lines().map(copy).collect()
    }
}

impl Backup {
    /// Unpacks it into an empty directory, with the WAL that it holds.
    #[track_caller]
    pub fn unpack(&self, into: &Path) {
        if self.format == Format::Plain {
            run(as_server("cp").arg("-a").arg(self.path.join(".")).arg(into));
            return;
        }
        for (archive, into) in [("base.tar", into.to_owned()), ("pg_wal.tar", into.join("pg_wal"))] {
            let gzipped = self.path.join(format!("{archive}.gz"));
            let archive = if gzipped.exists() { gzipped } else { self.path.join(archive) };
            if archive.exists() {
                run(as_server("tar").arg("-xf").arg(archive).arg("-C").arg(into));
            }
        }
    }
}

/// Copies the files of a running server. They may change and vanish meanwhile: WAL makes them whole again.
fn copy_files(data: &Path, copy: &Path) {
    let left_out = LEFT_OUT.map(|pattern| format!("--exclude={pattern}")).join("' '");
    let pack =
        format!("tar -C '{}' '{left_out}' --warning=no-file-changed --ignore-failed-read -cf - .", data.display());
    run(as_server("sh").arg("-c").arg(format!("{pack} | tar -C '{}' -xpf -", copy.display())));
}

/// Packs a copy in the order and with the names that `pg_basebackup` writes: the label first, `pg_control` last, no `./`.
fn tar_like_the_server(copy: &Path, archive: &Path) {
    let listed = run(as_server("find").arg(copy).args(["-mindepth", "1", "-printf", "%P\\n"]));
    let control = "global/pg_control";
    let mut names: Vec<&str> = listed.lines().collect();
    names.sort_by_key(|name| (*name == control, *name != "backup_label", *name));
    let list = archive.with_extension("list");
    fs::write(&list, names.join("\n")).unwrap();
    let mut tar = as_server("tar");
    tar.arg("-C").arg(copy).args(["--format=ustar", "--no-recursion", "-b", "2", "-cf"]).arg(archive);
    run(tar.arg("-T").arg(&list));
    fs::remove_file(list).unwrap();
}
