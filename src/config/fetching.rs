//! WAL by commands, as the configuration has it, and how much of it is kept.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::core::archive::PATIENCE_S;
use crate::core::{FetchCommand, PlacedCommand};
use crate::error::{Error, Result};

/// So many bytes of what commands fetch are kept, unless the configuration says otherwise.
pub const KEPT_BYTES: u64 = 2 << 30;

/// One place that WAL comes from.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileWal {
    path: Option<PathBuf>,
    command: Option<String>,
    missing: Vec<u8>,
    timeout: Option<Amount>,
}

/// What is kept below the cache directory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileCache {
    fetched: Option<Amount>,
}

/// A number, alone or with a unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

impl Amount {
    /// In the smallest of the units, which have each their size in it.
    fn in_units(&self, units: &[(&str, u64)]) -> Option<u64> {
        match self {
            Amount::Number(number) => Some(*number),
            Amount::Text(text) => {
                let text = text.trim();
                let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let (number, unit) = text.split_at_checked(digits)?;
                let unit = unit.trim();
                let (_, size) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
                number.parse::<u64>().ok()?.checked_mul(*size)
            }
        }
    }
}

impl FileCache {
    /// So many bytes of what commands fetch are kept.
    pub(super) fn fetched_bytes(&self) -> Result<Option<u64>> {
        const UNITS: [(&str, u64); 5] = [("", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];
        let Some(fetched) = &self.fetched else { return Ok(None) };
        fetched.in_units(&UNITS).map(Some).ok_or_else(|| {
            Error::usage("configuration-wrong", "cache.fetched in the configuration is no amount of bytes")
                .hint("write it like 2GB or 500MB")
        })
    }
}

/// The directories, and the commands among them, of the source `name`.
pub(super) fn resolve(wal: Vec<FileWal>, name: &str, base: &Path) -> Result<(Vec<PathBuf>, Vec<PlacedCommand>)> {
    let (mut directories, mut commands) = (Vec::new(), Vec::new());
    for place in wal {
        match (place.path, place.command) {
            (Some(path), None) if place.missing.is_empty() && place.timeout.is_none() => {
                directories.push(base.join(path))
            }
            (None, Some(command)) => {
                let fetch =
                    FetchCommand { command, missing: place.missing, timeout_s: timeout(place.timeout.as_ref(), name)? };
                check(&fetch, &format!("the source {name} has"))?;
                if fetch.missing.contains(&0) {
                    return Err(Error::usage(
                        "bad-command",
                        format!("missing: [0] of the source {name}: 0 is success"),
                    )
                    .hint(
                        "name the statuses with which the command ends where a file is not there, like missing: [1]",
                    ));
                }
                commands.push(PlacedCommand { after: directories.len(), fetch });
            }
            _ => {
                let message = format!(
                    "each place in wal of the source {name} is one of path and command, the latter perhaps with missing and timeout"
                );
                return Err(Error::usage("configuration-wrong", message)
                    .hint("wal: [{path: /backups/wal}, {command: \"wal-g wal-fetch %f %p\"}]"));
            }
        }
    }
    Ok((directories, commands))
}

fn timeout(given: Option<&Amount>, name: &str) -> Result<u64> {
    const UNITS: [(&str, u64); 4] = [("", 1), ("s", 1), ("min", 60), ("h", 3600)];
    let Some(given) = given else { return Ok(PATIENCE_S) };
    given.in_units(&UNITS).filter(|seconds| *seconds > 0).ok_or_else(|| {
        Error::usage("configuration-wrong", format!("timeout of a command of the source {name} is no time"))
            .hint("write it like 90s, 10min or 1h")
    })
}

fn check(fetch: &FetchCommand, whose: &str) -> Result<()> {
    fetch.check().map_err(|bad| {
        let message = format!("{whose} a command that cannot fetch WAL: {}", fetch.shown());
        Error::usage("bad-command", message).caused_by(&bad).hint(bad.hint())
    })
}

/// The commands of `--wal-command`, behind so many directories.
pub(super) fn of_command_line(commands: &[String], directories: usize) -> Result<Vec<PlacedCommand>> {
    let placed = |command: &String| {
        let fetch = FetchCommand::new(command.clone());
        check(&fetch, "--wal-command names")?;
        Ok(PlacedCommand { after: directories, fetch })
    };
    commands.iter().map(placed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<(Vec<PathBuf>, Vec<PlacedCommand>)> {
        resolve(serde_yaml::from_str(yaml).unwrap(), "shop", Path::new("/etc"))
    }

    #[test]
    fn directories_and_commands_keep_their_order() {
        let (directories, commands) = read(
            "[{path: a}, {command: 'wal-g wal-fetch %f %p', missing: [1, 74], timeout: 2min}, {path: /b}, {command: 'cp /x/%f %p'}]",
        )
        .unwrap();
        assert_eq!(directories, [PathBuf::from("/etc/a"), PathBuf::from("/b")]);
        assert_eq!(commands.iter().map(|command| command.after).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((commands[0].fetch.missing.as_slice(), commands[0].fetch.timeout_s), (&[1, 74][..], 120));
        assert_eq!(commands[1].fetch.timeout_s, PATIENCE_S);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_hint() {
        let refused = |yaml: &str| {
            let error = read(yaml).unwrap_err();
            assert!(error.report().hint.is_some());
            error.report().code
        };
        assert_eq!(refused("[{path: /a, command: 'cp /x/%f %p'}]"), "configuration-wrong");
        assert_eq!(refused("[{path: /a, missing: [1]}]"), "configuration-wrong");
        assert_eq!(refused("[{}]"), "configuration-wrong");
        assert_eq!(refused("[{command: 'cp /x/%f %p', timeout: soon}]"), "configuration-wrong");
        assert_eq!(refused("[{command: 'cp /x/%f %p', timeout: 0}]"), "configuration-wrong");
        assert_eq!(refused("[{command: 'cp /x /y'}]"), "bad-command");
        assert_eq!(refused("[{command: 'cp /x/%f %p', missing: [0]}]"), "bad-command");
        assert!(of_command_line(&["cp /x/%f".to_owned()], 1).is_err());
    }

    #[test]
    fn amounts_have_units() {
        let bytes = |yaml: &str| serde_yaml::from_str::<FileCache>(yaml).unwrap().fetched_bytes().ok().flatten();
        assert_eq!(bytes("{fetched: 2GB}"), Some(2 << 30));
        assert_eq!(bytes("{fetched: 500 mb}"), Some(500 << 20));
        assert_eq!(bytes("{fetched: 12}"), Some(12));
        assert_eq!((bytes("{fetched: much}"), bytes("{fetched: 2 GiB}"), bytes("{}")), (None, None, None));
    }
}
