//! What was found below directories, in words, and the sources that it makes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::catalog::found::{Found, FoundArchive, FoundBackup, FoundSource};
use crate::core::Zone;
use crate::core::progress::{Bytes, counted};
use crate::error::{Error, Result};
use crate::source::Cancel;
use crate::source::discover::{Bounds, discover};

use super::note;
use super::table::{plain, wrapped};

/// Finds what there is below these directories, which are made absolute. `cache`: as [`discover`] has it.
///
/// # Errors
/// When one of them cannot be read, or when it was cancelled.
pub fn find(paths: &[PathBuf], cache: Option<&Path>, cancel: &Cancel) -> Result<Found> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| {
            Error::usage("bad-path", format!("this path cannot be made absolute: {}", path.display())).caused_by(&error)
        })
    };
    let paths = paths.iter().map(absolute).collect::<Result<Vec<_>>>()?;
    if std::io::stderr().is_terminal() {
        note(&format!("looking below {}", listed(&paths)));
    }
    discover(&paths, Bounds::default(), cache, cancel)
}

/// That nothing was found, with what there was instead.
#[must_use]
pub fn nothing(found: &Found) -> Error {
    let what = format!("there is no base backup and no WAL archive below {}", listed(&found.paths));
    let foreign =
        found.foreign.iter().map(|foreign| format!("{}: {}; {}", foreign.path.display(), foreign.what, foreign.hint));
    let servers =
        found.data_directories.iter().map(|directory| format!("{}: {}", directory.path.display(), directory.note));
    let unplaced = found
        .unplaced_backups
        .iter()
        .flat_map(|backup| backup.problems.iter().map(|problem| format!("{}: {problem}", backup.path.display())));
    let left = found.left_alone.iter().map(|left| format!("{}: {}", left.path.display(), left.why));
    let all = foreign.chain(servers).chain(unplaced).chain(left).chain(found.cut_short.iter().cloned());
    let error = all.take(MOST_CAUSES).fold(Error::failed("nothing-found", what), Error::because);
    error.hint(
        "a base backup is a directory with base.tar (or base.tar.gz), or one with PG_VERSION, global and backup_label; \
         an archive has files like 000000010000000000000001; give a directory nearer to them",
    )
}

/// So much of what there was instead is said.
const MOST_CAUSES: usize = 12;

/// What was found, briefly: for whoever goes on with it.
pub fn note_briefly(found: &Found, chosen: &str) {
    for source in found.sources.iter().filter(|source| source.name == chosen) {
        note(&format!("found {}: {}", plain(&source.name), plain(&source.in_words())));
        for directory in &source.backup_directories {
            note(&format!("  backups  {}", plain(&directory.display().to_string())));
        }
        for archive in &source.wal {
            note(&format!("  wal      {}: {}", plain(&archive.path.display().to_string()), archive.why));
        }
    }
    for foreign in &found.foreign {
        note(&format!("  not read {}: {}", plain(&foreign.path.display().to_string()), plain(&foreign.what)));
    }
    let left = found.left_alone.len() + found.unplaced_backups.len() + found.unplaced_wal.len();
    if left > 0 {
        let paths = found.paths.iter().map(|path| crate::plan::settings::shell_quote(&path.display().to_string()));
        let paths = plain(&paths.collect::<Vec<_>>().join(" "));
        note(&format!("  left out {left} more; “walback init --output - {paths}” says what and why"));
    }
    if let Some(why) = &found.cut_short {
        note(&format!("warning: {}", plain(why)));
    }
}

/// What was taken for what, and why, in aligned lines.
#[must_use]
pub fn in_words(found: &Found, zone: Zone) -> String {
    let mut sections = vec![format!("looked below {}: {}", listed(&found.paths), directories(found.directories))];
    sections.extend(found.sources.iter().map(|source| section_of(source, zone)));
    let unplaced = found.unplaced_backups.iter().map(|backup| backup_row(backup, zone));
    let unplaced: Vec<_> = unplaced.chain(found.unplaced_wal.iter().map(wal_row)).collect();
    if !unplaced.is_empty() {
        let rows = explained(&unplaced);
        sections.push(format!("in no source; --backups and --wal name them to one:\n{rows}"));
    }
    let path = |path: &Path| path.display().to_string();
    let servers = found.data_directories.iter().map(|it| vec![path(&it.path), version(it.pg_version), it.note.clone()]);
    section(&mut sections, "data directories of servers:", &servers.collect::<Vec<_>>());
    if !found.foreign.is_empty() {
        let foreign = found.foreign.iter().map(|it| {
            let hint = wrapped("    what you can do: ", &plain(&it.hint));
            format!("  {}  {}\n{hint}", plain(&path(&it.path)), plain(&it.what))
        });
        sections.push(format!("of other backup programs:\n{}", foreign.collect::<Vec<_>>().join("\n")));
    }
    let left = found.left_alone.iter().map(|it| vec![path(&it.path), it.why.clone()]);
    section(&mut sections, "left alone:", &left.collect::<Vec<_>>());
    sections.extend(found.cut_short.iter().map(|why| format!("warning: {}", plain(why))));
    sections.join("\n\n")
}

fn section(sections: &mut Vec<String>, title: &str, rows: &[Vec<String>]) {
    if !rows.is_empty() {
        sections.push(format!("{title}\n{}", aligned("  ", rows)));
    }
}

fn section_of(source: &FoundSource, zone: Zone) -> String {
    let mut text = format!("{}: {}", plain(&source.name), plain(&source.in_words()));
    if let Some(id) = source.system_identifier {
        text = format!("{text}, system identifier {id}");
    }
    let backups: Vec<(Vec<String>, String)> = source.backups.iter().map(|it| backup_row(it, zone)).collect();
    let wal: Vec<(Vec<String>, String)> = source.wal.iter().map(wal_row).collect();
    let mut text = format!("{text}\n{}", explained(&[backups, wal].concat()));
    if !source.backup_directories.is_empty() {
        text = format!("{text}\n  its backups are looked for in {}", plain(&listed(&source.backup_directories)));
    }
    if source.backups.is_empty() {
        text.push_str(
            "\n  without a base backup there is nothing to recover from: name the directory that has them, too",
        );
    }
    if source.wal.is_empty() {
        text.push_str("\n  without WAL a recovery ends where the backup did: name the archive, too");
    }
    text
}

fn version(major: Option<crate::core::PgMajor>) -> String {
    major.map_or_else(|| "PG ?".to_owned(), |major| format!("PG {major}"))
}

/// A row, and why.
fn backup_row(backup: &FoundBackup, zone: Zone) -> (Vec<String>, String) {
    let begun = backup.started_at.map_or_else(|| "?".to_owned(), |at| at.in_zone(zone).replace(".000000", ""));
    let what = [begun, backup.kind_in_words(), version(backup.pg_version), Bytes(backup.size_bytes).to_string()];
    let why = match backup.problems.first() {
        Some(problem) => format!("BROKEN: {problem}"),
        None => backup.why.clone(),
    };
    (vec!["backup".to_owned(), backup.path.display().to_string(), what.join(", ")], why)
}

/// The same of an archive.
fn wal_row(archive: &FoundArchive) -> (Vec<String>, String) {
    let problems = archive.problems.iter().map(|problem| format!("; {problem}")).collect::<String>();
    let row = vec!["wal".to_owned(), archive.path.display().to_string(), archive.in_words()];
    (row, format!("{}{problems}", archive.why))
}

/// Aligned rows, each run of them that has one reason with that below it.
fn explained(rows: &[(Vec<String>, String)]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|(row, _)| row.clone()).collect();
    let lines = aligned("  ", &cells);
    let mut text = Vec::new();
    for (place, (line, (_, why))) in lines.lines().zip(rows).enumerate() {
        text.push(line.to_owned());
        if rows.get(place + 1).is_none_or(|(_, next)| next != why) {
            text.push(wrapped("          ", &plain(why)));
        }
    }
    text.join("\n")
}

/// Rows whose cells are as wide as they have to be; these may come from outside.
fn aligned(indent: &str, rows: &[Vec<String>]) -> String {
    use unicode_width::UnicodeWidthStr;
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell}{}", " ".repeat(width(column).saturating_sub(cell.width()))));
        format!("{indent}{}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn directories(number: u64) -> String {
    if number == 1 { "1 directory".to_owned() } else { counted(number, "directorie") }
}

/// `/a, /b`
#[must_use]
pub fn listed(paths: &[PathBuf]) -> String {
    plain(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
}
