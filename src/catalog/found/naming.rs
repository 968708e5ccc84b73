//! Names for sources, made of the names of their directories.

use std::collections::BTreeSet;
use std::path::Path;

use super::FoundSource;

/// Names of directories that say nothing about whose they are.
const GENERIC: &[&str] = &[
    "a",
    "archive",
    "archived",
    "archives",
    "archivelog",
    "b",
    "backup",
    "backups",
    "base",
    "base-backup",
    "base-backups",
    "base_backup",
    "basebackup",
    "basebackups",
    "cluster",
    "clusters",
    "current",
    "daily",
    "data",
    "database",
    "db",
    "dump",
    "full",
    "home",
    "incr",
    "incremental",
    "latest",
    "lib",
    "local",
    "main",
    "media",
    "mnt",
    "monthly",
    "new",
    "old",
    "opt",
    "pg",
    "pg_wal",
    "pg_xlog",
    "pgarchive",
    "pgbackup",
    "pgbackups",
    "pgdata",
    "pgsql",
    "pgwal",
    "pitr",
    "postgres",
    "postgresql",
    "restore",
    "root",
    "srv",
    "storage",
    "tar",
    "tmp",
    "usr",
    "var",
    "wal",
    "wal-archive",
    "wal_archive",
    "walarchive",
    "wals",
    "weekly",
    "xlog",
];

/// Gives each source a name that no other one has: with its major version where several would have the same, and with a
/// number where that does not tell them apart either.
pub(super) fn name_all(sources: &mut [FoundSource]) {
    let wanted: Vec<String> = sources.iter().map(wanted).collect();
    let mut given: BTreeSet<String> = BTreeSet::new();
    for (source, name) in sources.iter_mut().zip(&wanted) {
        let is_shared = wanted.iter().filter(|other| *other == name).count() > 1;
        let name = match source.pg_versions.first().filter(|_| is_shared) {
            Some(major) => format!("{name}-{major}"),
            None => name.clone(),
        };
        let mut numbered = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
        source.name = numbered.find(|candidate| !given.contains(candidate)).unwrap_or(name);
        given.insert(source.name.clone());
    }
}

/// What most of its directories are called by, or lie in.
fn wanted(source: &FoundSource) -> String {
    let places = source.backup_directories.iter().chain(source.wal.iter().map(|archive| &archive.path));
    let mut votes: Vec<(String, usize)> = Vec::new();
    for name in places.filter_map(|place| telling(place)) {
        match votes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, votes)) => *votes += 1,
            None => votes.push((name, 1)),
        }
    }
    // Of several that are as many, the first one.
    let chosen = votes.into_iter().rev().max_by_key(|(_, votes)| *votes).map(|(name, _)| name);
    chosen.unwrap_or_else(|| match source.pg_versions.first() {
        Some(major) => format!("postgresql-{major}"),
        None => "postgresql".to_owned(),
    })
}

/// The last part of a path that tells whose it is, in letters, digits, `-`, `_` and `.`.
fn telling(path: &Path) -> Option<String> {
    let parts = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let parts: Vec<String> = parts.map(harmless).collect();
    parts.into_iter().rev().find(|part| is_telling(part))
}

fn harmless(part: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    part.chars().map(keep).collect::<String>().trim_matches(['-', '.']).to_owned()
}

/// Neither a word that anybody uses, nor a date, a version or a number.
fn is_telling(part: &str) -> bool {
    let lower = part.to_lowercase();
    // `base-2026-11-20` is a date with a word, `pg15` a version.
    let words = lower.split(|c: char| c.is_ascii_digit() || "-_.".contains(c)).filter(|word| !word.is_empty());
    let is_date = |word: &str| matches!(word, "t" | "z" | "utc");
    !GENERIC.contains(&lower.as_str()) && words.into_iter().any(|word| !GENERIC.contains(&word) && !is_date(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_tells_clusters_apart() {
        for (path, name) in [
            ("/backups/shop/base", Some("shop")),
            ("/backups/base/shop/2026-11-20T04", Some("shop")),
            ("/backups/wal/shop.example.com/", Some("shop.example.com")),
            ("/var/lib/postgresql/15/main/pg_wal", None),
            ("/backups/pg15/wal-archive", None),
            ("/srv/My Shop/wal", Some("My-Shop")),
            ("/srv/Läden/wal", Some("Läden")),
        ] {
            assert_eq!(telling(Path::new(path)).as_deref(), name, "{path}");
        }
    }
}
