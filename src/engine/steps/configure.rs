//! Writes the settings and `recovery.signal`, and takes them back after promotion.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pgdata::auto_conf::AutoConf;
use crate::pgdata::control_file::ControlFile;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::settings::{RECOVERY_SETTINGS, TARGET_SETTINGS};
use crate::plan::{Plan, files};

use super::super::host::{Account, Host};
use super::super::server::socket_files;

/// Writes everything that the plan says, so that the server started next recovers to the target.
///
/// # Errors
/// When a file cannot be read or written.
pub fn configure(host: &Host, plan: &Plan, owner: &Account) -> Result<()> {
    let host = &host.acting_as(owner);
    let directory = &plan.directory;
    let own = directory.join(OWN_DIRECTORY);
    host.write_file(&own.join("pg_hba.conf"), files::HBA.as_bytes(), 0o600, owner)?;
    host.write_file(&own.join("pg_ident.conf"), files::IDENT.as_bytes(), 0o600, owner)?;
    make_socket_directory(host, &plan.server.socket_directory, owner)?;
    // The process id in the lock of a server that was killed may be somebody else's by now.
    for stale in socket_files(&plan.server) {
        host.remove_file(&stale)?;
    }
    let configuration = directory.join("postgresql.conf");
    if !configuration.exists() {
        host.write_file(&configuration, stand_in(host, directory)?.as_bytes(), 0o600, owner)?;
    }
    let path = directory.join(files::AUTO_CONF);
    let copied = read_auto_conf(host, &path)?;
    let original = own.join(files::COPIED_AUTO_CONF);
    if !original.exists() {
        host.write_file(&original, copied.as_bytes(), 0o600, owner)?;
    }
    host.write_file(&path, files::auto_conf(&copied, plan).as_bytes(), 0o600, owner)?;
    for stale in ["standby.signal", "postmaster.pid", "postmaster.opts"] {
        host.remove_file(&directory.join(stale))?;
    }
    host.write_file(&directory.join(files::SIGNAL), b"", 0o600, owner)
}

/// After promotion: no setting of recovery is left, and no signal file.
///
/// # Errors
/// When a file cannot be read or written.
pub fn forget_recovery(host: &Host, directory: &Path, owner: &Account) -> Result<()> {
    let host = &host.acting_as(owner);
    let path = directory.join(files::AUTO_CONF);
    let mut settings = AutoConf::parse(&read_auto_conf(host, &path)?);
    for name in RECOVERY_SETTINGS.iter().chain(&TARGET_SETTINGS) {
        settings.remove(name);
    }
    host.write_file(&path, settings.render().as_bytes(), 0o600, owner)?;
    host.remove_file(&directory.join(files::SIGNAL))
}

fn read_auto_conf(host: &Host, path: &Path) -> Result<String> {
    match host.read_file(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error)),
    }
}

/// Below `/tmp` somebody else may have made a directory of that name: it is used only where it is the server's own.
fn make_socket_directory(host: &Host, path: &Path, owner: &Account) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    host.ensure_directory(path, owner)?;
    let metadata = fs::symlink_metadata(path)
        .map_err(|error| Error::failed("unreadable", format!("cannot look at {}", path.display())).caused_by(&error))?;
    if metadata.uid() == owner.uid && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::failed(
        "socket-directory-foreign",
        format!("this directory is not the server's own: {}", path.display()),
    )
    .hint("remove it, or recover into a directory with a shorter path"))
}

/// Debian keeps `postgresql.conf` outside of the data directory. What a standby must not have less of than the
/// primary had stands in `pg_control`; the rest are defaults.
fn stand_in(host: &Host, directory: &Path) -> Result<String> {
    let path = directory.join("global/pg_control");
    let bytes = host
        .read_file(&path)
        .map_err(|error| Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error))?;
    let control = ControlFile::parse(&bytes)
        .map_err(|error| Error::failed("backup-broken", format!("{} is broken", path.display())).caused_by(&error))?;
    Ok(format!(
        "# Written by Walback: the base backup had no postgresql.conf.\n\
         max_connections = {}\nmax_worker_processes = {}\nmax_wal_senders = {}\n\
         max_prepared_transactions = {}\nmax_locks_per_transaction = {}\n",
        control.max_connections,
        control.max_worker_processes,
        control.max_wal_senders,
        control.max_prepared_xacts,
        control.max_locks_per_xact
    ))
}
