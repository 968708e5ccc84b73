//! Knows what other backup programs keep by the marks that they leave, and reads none of it.

use std::fs;
use std::path::Path;

use crate::catalog::found::Foreign;

/// What another program keeps.
pub(super) struct Recognized {
    /// What it is.
    pub(super) foreign: Foreign,
    /// The entries that belong to it and are not looked into; all of them where none is named.
    pub(super) inside: &'static [&'static str],
}

/// What another program keeps in a directory with these entries; `None` where no program is known by them.
pub(super) fn recognize(directory: &Path, has: &dyn Fn(&str) -> bool) -> Option<Recognized> {
    let look = Look { directory, has };
    [pgbackrest, barman, wal_g, pg_probackup].into_iter().find_map(|known| known(&look))
}

/// A directory, and whether it has an entry of a name.
struct Look<'a> {
    directory: &'a Path,
    has: &'a dyn Fn(&str) -> bool,
}

impl Look<'_> {
    fn has(&self, name: &str) -> bool {
        (self.has)(name)
    }

    /// The names in a directory below it, sorted; none where it cannot be read.
    fn names_in(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join(below)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Those of them that are directories with an entry of that name.
    fn with(&self, below: &str, mark: &str) -> Vec<String> {
        let mut names = self.names_in(below);
        names.retain(|name| self.directory.join(below).join(name).join(mark).exists());
        names
    }

    fn recognized(
        &self,
        program: &'static str,
        what: String,
        hint: String,
        inside: &'static [&'static str],
    ) -> Recognized {
        let what = format!("{what}, which this version of Walback does not read by itself");
        Recognized { foreign: Foreign { path: self.directory.to_path_buf(), program, what, hint }, inside }
    }

    /// Its own name, for commands.
    fn name(&self) -> String {
        self.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What goes for all of them: the base backup has to come out by the program that made it.
fn advice(backup: &str, wal: &str) -> String {
    format!(
        "have a base backup restored by its own program ({backup}), and WAL fetched with the same: “wal: [{{command: \
         \"{wal}\"}}]” in the configuration"
    )
}

/// A repository has `backup/STANZA/backup.info` and `archive/STANZA/archive.info`, a stanza of it one of these files.
fn pgbackrest(look: &Look<'_>) -> Option<Recognized> {
    let mut stanzas = look.with("backup", "backup.info");
    stanzas.extend(look.with("archive", "archive.info"));
    stanzas.dedup();
    let is_part = look.has("archive.info") || look.has("backup.info.copy");
    if stanzas.is_empty() && !is_part {
        return None;
    }
    let stanza = stanzas.first().cloned().unwrap_or_else(|| look.name());
    let what = match stanzas.len() {
        0 => format!("a part of a pgBackRest repository, stanza {stanza}"),
        1 => format!("a pgBackRest repository, stanza {stanza}"),
        _ => format!("a pgBackRest repository, stanzas {}", stanzas.join(", ")),
    };
    let hint = advice(
        &format!("pgbackrest --stanza={stanza} --type=none restore"),
        &format!("pgbackrest --stanza={stanza} archive-get %f %p"),
    );
    let inside: &[&str] = if is_part { &[] } else { &["archive", "backup"] };
    Some(look.recognized("pgbackrest", what, hint, inside))
}

/// A server's directory has `base` and `wals`; besides `identity.json` (3.4), `wals/xlog.db`, `meta` (3.19), or a
/// `backup.info` in each backup.
fn barman(look: &Look<'_>) -> Option<Recognized> {
    let at = |name: &str| look.directory.join(name);
    let is_server = look.has("base")
        && look.has("wals")
        && (look.has("identity.json")
            || look.has("meta")
            || at("wals/xlog.db").exists()
            || !look.with("base", "backup.info").is_empty());
    // A backup of Barman's has what it says of itself beside its data.
    let is_backup = look.has("backup.info") && look.has("data");
    if !is_server && !is_backup {
        return None;
    }
    let server = if is_server { look.name() } else { "SERVER".to_owned() };
    let what = if is_server {
        format!("the directory of Barman for server {server}")
    } else {
        "a backup of Barman's".to_owned()
    };
    let hint =
        advice(&format!("barman recover {server} latest DIRECTORY"), &format!("barman get-wal {server} %f > %p"));
    Some(look.recognized("barman", what, hint, &[]))
}

/// `basebackups_005` and `wal_005` (`utility.BaseBackupPath` and `WalPath`).
fn wal_g(look: &Look<'_>) -> Option<Recognized> {
    let is_part = matches!(look.name().as_str(), "basebackups_005" | "wal_005");
    if !look.has("basebackups_005") && !look.has("wal_005") && !is_part {
        return None;
    }
    let hint = advice("wal-g backup-fetch DIRECTORY LATEST", "wal-g wal-fetch %f %p");
    let inside: &[&str] = if is_part { &[] } else { &["basebackups_005", "wal_005"] };
    Some(look.recognized("wal-g", "a storage of WAL-G".to_owned(), hint, inside))
}

/// A catalog has `backups/INSTANCE/pg_probackup.conf` and `wal/INSTANCE`; each backup has a `backup.control`.
fn pg_probackup(look: &Look<'_>) -> Option<Recognized> {
    if look.has("backup.control") && look.has("database") {
        let hint = advice("pg_probackup restore", "pg_probackup archive-get … --wal-file-path=%p --wal-file-name=%f");
        return Some(look.recognized("pg_probackup", "a backup of pg_probackup's".to_owned(), hint, &[]));
    }
    if !(look.has("backups") && look.has("wal")) {
        return None;
    }
    let with_control = |instance: &String| {
        let inside = look.names_in(&format!("backups/{instance}"));
        inside.iter().any(|id| look.directory.join("backups").join(instance).join(id).join("backup.control").exists())
    };
    let mut instances = look.names_in("backups");
    instances.retain(|name| {
        look.directory.join("backups").join(name).join("pg_probackup.conf").exists() || with_control(name)
    });
    let instance = instances.first()?.clone();
    let catalog = look.directory.display();
    let hint = advice(
        &format!("pg_probackup restore -B {catalog} --instance={instance}"),
        &format!("pg_probackup archive-get -B {catalog} --instance={instance} --wal-file-path=%p --wal-file-name=%f"),
    );
    let what = format!("a catalog of pg_probackup, instances {}", instances.join(", "));
    Some(look.recognized("pg_probackup", what, hint, &["backups", "wal"]))
}
