//! Writes the settings and `recovery.signal`, and takes them back after promotion.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pgdata::auto_conf::AutoConf;
use crate::pgdata::configuration::{Configuration, ConfigurationFiles, MAIN, NotFollowed, without_lines};
use crate::pgdata::control_file::ControlFile;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::settings::{RECOVERY_SETTINGS, TARGET_SETTINGS, WAY_BACK_SETTINGS};
use crate::plan::{Plan, files, parameters};
use crate::resolve::Requirements;

use super::super::data_directory::InDirectory;
use super::super::host::facts::somebody_answers;
use super::super::host::{Account, Host};
use super::super::remains::settle;
use super::super::server::{running, socket_files};
use super::fetching;

/// Writes everything that the plan says, so that the server started next recovers to the target. Done again, it writes
/// the same: each file is there whole or as it was, and `recovery.signal`, without which a server would take writes, comes
/// last where it is not there yet.
///
/// # Errors
/// When a file cannot be read or written, or a server runs in the directory: its `postmaster.pid` must not be removed.
pub fn configure(host: &Host, plan: &Plan, owner: &Account) -> Result<()> {
    if let Some(pid) = settle(&plan.directory)? {
        return Err(Error::failed(
            "server-running",
            format!("a server runs in this directory already: {} (process {pid})", plan.directory.display()),
        )
        .hint(format!("stop it first: “walback stop {}”", plan.recovery)));
    }
    let host = &host.acting_as(owner);
    let directory = &plan.directory;
    let own = directory.join(OWN_DIRECTORY);
    host.write_file(&own.join("pg_hba.conf"), files::HBA.as_bytes(), 0o600, owner)?;
    host.write_file(&own.join("pg_ident.conf"), files::IDENT.as_bytes(), 0o600, owner)?;
    make_socket_directory(host, &plan.server.socket_directory, owner)?;
    refuse_taken_socket(plan)?;
    // The process id in the lock of a server that was killed may be somebody else's by now.
    for stale in socket_files(&plan.server) {
        host.remove_file(&stale)?;
    }
    let unpacked = Unpacked { host, directory };
    let configuration = directory.join(MAIN);
    if !configuration.exists() {
        host.write_file(&configuration, stand_in(&unpacked)?.as_bytes(), 0o600, owner)?;
    }
    let configured = Configuration::read(&unpacked.files());
    set_aside(&unpacked, &configured.not_followed, owner)?;
    let path = directory.join(files::AUTO_CONF);
    let copied = read_auto_conf(host, &path)?;
    let original = own.join(files::COPIED_AUTO_CONF);
    if !original.exists() {
        host.write_file(&original, copied.as_bytes(), 0o600, owner)?;
    }
    fetching::prepare(host, plan, owner, unpacked.control()?.system_identifier)?;
    let needed = needed(&unpacked, plan, &configured)?;
    host.write_file(&path, files::auto_conf(&copied, plan, Some(needed)).as_bytes(), 0o600, owner)?;
    for stale in ["standby.signal", "postmaster.pid", "postmaster.opts"] {
        host.remove_file(&directory.join(stale))?;
    }
    host.write_file(&directory.join(files::SIGNAL), b"", 0o600, owner)
}

/// After promotion: no setting of recovery is left, and no signal file. A server that runs reads its settings again.
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
    let copied = AutoConf::parse(&read_auto_conf(host, &directory.join(OWN_DIRECTORY).join(files::COPIED_AUTO_CONF))?);
    for (name, value) in WAY_BACK_SETTINGS {
        // Where the operator had chosen something else, that stays.
        if settings.get(name) == Some(value) {
            settings.remove(name);
            if let Some(before) = copied.get(name) {
                settings.set(name, before);
            }
        }
    }
    host.write_file(&path, settings.render().as_bytes(), 0o600, owner)?;
    host.remove_file(&directory.join(files::SIGNAL))?;
    running(directory).map_or(Ok(()), |server| host.reload(server))?;
    fetching::forget(host, directory)
}

/// No server runs in the recovery's directory: whoever answers on its socket is another one, which would not be reached any
/// more once its socket is gone.
fn refuse_taken_socket(plan: &Plan) -> Result<()> {
    let [socket, _] = socket_files(&plan.server);
    if !somebody_answers(&socket) {
        return Ok(());
    }
    Err(Error::failed(
        "port-taken",
        format!("port {} is taken: another server has the socket {}", plan.server.port, socket.display()),
    )
    .hint(format!("stop that server, or have it use another socket; then “walback resume {}” goes on", plan.recovery)))
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

/// The unpacked data directory.
struct Unpacked<'a> {
    host: &'a Host,
    directory: &'a Path,
}

impl Unpacked<'_> {
    fn files(&self) -> InDirectory<'_> {
        InDirectory { directory: self.directory, host: Some(self.host) }
    }

    fn control(&self) -> Result<ControlFile> {
        let path = self.directory.join("global/pg_control");
        let bytes = self.host.read_file(&path).map_err(|error| {
            Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error)
        })?;
        ControlFile::parse(&bytes)
            .map_err(|error| Error::failed("backup-broken", format!("{} is broken", path.display())).caused_by(&error))
    }
}

/// Turns includes into comments that lead nowhere, or out of the directory: the server would not start, or depend on
/// the original's files. What the files were is kept.
fn set_aside(unpacked: &Unpacked<'_>, includes: &[NotFollowed], owner: &Account) -> Result<()> {
    let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for include in includes {
        lines.entry(&include.file).or_default().push(include.line);
    }
    for (name, lines) in lines {
        let Some(text) = unpacked.files().text(name) else { continue };
        let kept = unpacked.directory.join(OWN_DIRECTORY).join(format!("{}.from-backup", name.replace('/', "_")));
        if !kept.exists() {
            unpacked.host.write_file(&kept, text.as_bytes(), 0o600, owner)?;
        }
        let text = without_lines(&text, &lines);
        unpacked.host.write_file(&unpacked.directory.join(name), text.as_bytes(), 0o600, owner)?;
    }
    Ok(())
}

/// The least that recovery goes on with, by what was unpacked: the plan may not have known it. Where the plan sets
/// nothing, no less than is configured.
fn needed(unpacked: &Unpacked<'_>, plan: &Plan, configured: &Configuration) -> Result<Requirements> {
    let asked = parameters::of_control(&unpacked.control()?);
    let asked = plan.resolved.requires.map_or(asked, |more| asked.and(more));
    let mut all = asked.settings();
    for ((name, needed), (_, set)) in all.iter_mut().zip(parameters::of_configuration(configured).settings()) {
        *needed = if plan.setting(name).is_none() { (*needed).max(set) } else { *needed };
    }
    Ok(Requirements::of_settings(all))
}

/// Debian keeps `postgresql.conf` outside of the data directory. What a standby must not have less of than the
/// primary had stands in `pg_control`; the rest are defaults.
fn stand_in(unpacked: &Unpacked<'_>) -> Result<String> {
    let mut text = "# Written by Walback: the base backup had no postgresql.conf.\n".to_owned();
    for (name, value) in parameters::of_control(&unpacked.control()?).settings() {
        text.push_str(&format!("{name} = {value}\n"));
    }
    Ok(text)
}
