//! What this machine's system has of what a backup needs: locales, the C library, libraries of the server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::catalog::Tablespace;

/// Settings that name libraries.
const LIBRARY_SETTINGS: [&str; 3] =
    ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"];

/// Those of these locales that the C library does not have. Empty where that cannot be asked.
#[must_use]
pub(super) fn missing_locales(wanted: BTreeSet<String>) -> BTreeSet<String> {
    wanted.into_iter().filter(|locale| is_missing(locale)).collect()
}

/// `locale` complains where the C library cannot set what it is told (`setlocale(3)`), as the server would.
fn is_missing(locale: &str) -> bool {
    let mut command = Command::new("locale");
    command.arg("charmap").env("LC_ALL", locale).env_remove("LANGUAGE").stdin(Stdio::null());
    command.output().is_ok_and(|output| !output.stderr.is_empty())
}

/// The version of the C library, where it is glibc.
#[must_use]
pub(super) fn glibc() -> Option<String> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().strip_prefix("glibc ").map(str::to_owned)
}

/// The libraries that these settings name, and that are not among the server's. Empty where it is not known where
/// those are.
#[must_use]
pub(super) fn missing_libraries<'a>(
    settings: impl Iterator<Item = (&'a String, &'a String)>,
    bin_dir: &Path,
) -> Vec<String> {
    let named = settings.filter(|(name, _)| LIBRARY_SETTINGS.iter().any(|known| name.eq_ignore_ascii_case(known)));
    let libraries = named.flat_map(|(_, value)| value.split(',')).map(|name| name.trim().trim_matches('"'));
    let libraries: Vec<&str> = libraries.filter(|name| !name.is_empty()).collect();
    if libraries.is_empty() {
        return Vec::new();
    }
    let directories = library_directories(bin_dir);
    let is_there = |name: &str| {
        let name = name.strip_prefix("$libdir/").unwrap_or(name);
        let file = if name.ends_with(".so") { name.to_owned() } else { format!("{name}.so") };
        directories.iter().any(|directory| directory.join(&file).is_file())
    };
    let missing = libraries.into_iter().filter(|name| !directories.is_empty() && !is_there(name));
    missing.map(str::to_owned).collect()
}

/// What the server says of each of these settings that it would not start with: their names, and its words. It is asked
/// for the value that it would have (`postgres -C`), with no file to read, and starts nothing.
#[must_use]
pub(super) fn refused_settings<'a>(
    settings: impl Iterator<Item = (&'a String, &'a String)>,
    bin_dir: &Path,
) -> Vec<(String, String)> {
    let refused = settings.filter_map(|(name, value)| {
        let mut command = Command::new(bin_dir.join("postgres"));
        command.args(["-C", name, "-D", "/", "-c", "config_file=/dev/null", "-c"]).arg(format!("{name}={value}"));
        let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let why = said.lines().find_map(|line| line.split_once("FATAL:"))?.1.trim().to_owned();
        (!output.status.success()).then(|| (name.clone(), why))
    });
    refused.collect()
}

/// Where the server's libraries are: where `pg_config` says, or beside its programs.
fn library_directories(bin_dir: &Path) -> Vec<PathBuf> {
    // The directory may be one of links to the programs.
    let program = bin_dir.join("postgres").canonicalize().unwrap_or_else(|_| bin_dir.join("postgres"));
    let bin_dir = program.parent().unwrap_or(bin_dir);
    let told = Command::new(bin_dir.join("pg_config")).arg("--pkglibdir").stdin(Stdio::null()).output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let above = bin_dir.parent().into_iter();
    let beside = above.flat_map(|above| [above.join("lib"), above.join("lib/postgresql")]);
    // Every server has this one.
    told.into_iter().chain(beside).filter(|directory| directory.join("plpgsql.so").is_file()).collect()
}

/// Those of these tablespaces of which something lies on this machine where they were.
#[must_use]
pub(super) fn occupied(tablespaces: &[Tablespace]) -> Vec<Tablespace> {
    tablespaces.iter().filter(|tablespace| Path::new(&tablespace.location).exists()).cloned().collect()
}
