//! `walback fetch`: what a recovering server runs as its `restore_command`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::engine::fetch;

use super::note;

/// Whether nothing but help is asked for; everything else is taken as the server's own call, and never read by `clap`:
/// what that refuses would end with 2, which is “not in the archive” to the server.
#[must_use]
pub fn asks_for_help(arguments: &[OsString]) -> bool {
    matches!(arguments, [only] if only == "--help" || only == "-h")
}

/// Serves a file, and gives the exit status. Reads no configuration and no journal: the server's user could not.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    fetch::run(arguments, &note)
}

/// The same, where the command line was understood.
#[must_use]
pub fn understood(recovery: &Path, file: &OsStr, to: &Path) -> u8 {
    run(&["--recovery".into(), recovery.into(), file.into(), to.into()])
}
