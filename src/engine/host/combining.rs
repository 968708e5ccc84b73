//! Looks whether the backups that an incremental one is combined of can be, and which of them are read where they lie.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::catalog::Backup;
use crate::core::PgMajor;
use crate::plan::CombineFacts;
use crate::plan::chain::{PROGRAM, is_readable_form};

use super::facts::{client_program, closed_to, parse_version, passes_test};
use super::{Account, command_as};

/// What there is to combine `chain` with, for the user that will do it; `None` where there is nothing to combine.
pub(super) fn look(
    chain: &[&Backup],
    bin_dir: Option<&Path>,
    major: PgMajor,
    account: Option<&Account>,
) -> Option<CombineFacts> {
    if chain.is_empty() {
        return None;
    }
    // Where the server's programs are nowhere, or nobody could run them, that is said already.
    let (Some(bin_dir), Some(account)) = (bin_dir, account) else { return Some(CombineFacts::default()) };
    let program = client_program(PROGRAM, bin_dir, major);
    let readable = chain.iter().filter(|backup| can_be_read(backup, account));
    let in_place: BTreeSet<_> = readable.map(|backup| backup.location.clone()).collect();
    Some(CombineFacts { unusable: unusable(&program, major, account), program, in_place })
}

/// Why the program cannot be used: it refuses the files of another version than its own (`check_control_files`).
fn unusable(program: &Path, major: PgMajor, account: &Account) -> Option<String> {
    if !program.is_file() {
        return Some("it is not there".to_owned());
    }
    let mut command = command_as(account, program);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let said = match command.output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => return Some(format!("{} cannot run it", account.name)),
    };
    (parse_version(&said) != Some(major)).then(|| format!("it is {said}"))
}

/// Whether that user can read a backup where it lies: it is asked of what is at its top, and of one of the files that
/// nobody but the server's user could read on the original server.
fn can_be_read(backup: &Backup, account: &Account) -> bool {
    let at = |name: &str| backup.location.join(name);
    // A link to WAL on another disk would be passed over.
    let own_wal = fs::symlink_metadata(at("pg_wal")).is_ok_and(|metadata| metadata.is_dir());
    let is_open = |path: &Path| passes_test(account, "-r", path) && passes_test(account, "-x", path);
    is_readable_form(backup)
        && own_wal
        && closed_to(account, &backup.location).is_none()
        && is_open(&backup.location)
        && is_open(&at("base"))
        && passes_test(account, "-r", &at("global/pg_control"))
        && backup.tablespaces.iter().all(|tablespace| {
            let place = Path::new(&tablespace.location);
            closed_to(account, place).is_none() && is_open(place)
        })
}
