//! Tells a server's data directory from a base backup, and whether a server runs in it.

use std::path::Path;

use crate::catalog::found::DataDirectory;
use crate::core::PgMajor;
use crate::pgdata::ControlFile;

use super::super::backups::is_data_directory;
use super::super::base_backup::read_prefix;
use super::super::copied::runs_in;
use super::super::open_file;

/// The longest `pg_control` and `PG_VERSION` that are read.
const SMALL_FILE: usize = 1 << 16;
/// What Walback puts into the data directories that it makes.
const OWN_DIRECTORY: &str = ".walback";

/// What is a data directory and no base backup; `None` where it is neither, or a base backup.
///
/// A base backup has a `backup_label`, and no server runs in it: while a base backup is taken the old way (13, 14), the
/// label lies in the data directory of the running server.
pub(super) fn recognize(directory: &Path, has: &dyn Fn(&str) -> bool) -> Option<DataDirectory> {
    if !is_data_directory(has) {
        return None;
    }
    let running = runs_in(directory);
    let is_own = has(OWN_DIRECTORY);
    if has("backup_label") && !running && !is_own {
        return None;
    }
    let read =
        |name: &str| open_file(&directory.join(name)).and_then(|mut file| read_prefix(&mut file, SMALL_FILE)).ok();
    let control = read("global/pg_control").and_then(|bytes| ControlFile::parse(&bytes).ok());
    let pg_version = read("PG_VERSION").and_then(|bytes| PgMajor::parse(&String::from_utf8_lossy(&bytes)));
    let is_standby = has("standby.signal");
    let what = match (is_own, running, &control) {
        (true, ..) => "a recovery that Walback made".to_owned(),
        (_, true, _) if is_standby => "the data directory of a standby that runs".to_owned(),
        (_, true, _) => "the data directory of a server that runs".to_owned(),
        (_, false, Some(control)) => {
            format!("a data directory in which no server runs on this machine; its pg_control says “{}”", control.state)
        }
        (_, false, None) => "a data directory in which no server runs on this machine".to_owned(),
    };
    Some(DataDirectory {
        path: directory.to_path_buf(),
        pg_version,
        system_identifier: control.map(|control| control.system_identifier),
        running,
        made_by_walback: is_own,
        note: what,
    })
}
