//! The other half of [`super::Host::start_server`]: a process that becomes another user, leaves the terminal's
//! session, starts the server and goes away, so that the server belongs to nobody who could take it along.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setsid, setuid};

/// The hidden subcommand that `main` sends here.
pub const SUBCOMMAND: &str = "__launch-server";

/// The hidden subcommand that runs a program as another user, with that user's groups.
pub const AS_USER: &str = "__as-user";

/// `USER PROGRAM ARGUMENT…`: becomes the user, and then the program.
///
/// # Errors
/// In words, where it cannot; otherwise it does not come back.
pub fn become_user(arguments: &[OsString]) -> Result<(), String> {
    let [user, program, rest @ ..] = arguments else { return Err("too few arguments".to_owned()) };
    let user = user.to_string_lossy();
    let account = User::from_name(&user).ok().flatten().ok_or_else(|| format!("there is no user {user}"))?;
    drop_to(&account).map_err(|error| format!("cannot become {user}: {error}"))?;
    let error = Command::new(program).args(rest).exec();
    Err(format!("cannot run {}: {error}", program.to_string_lossy()))
}

/// `USER LOG PROGRAM ARGUMENT…`: starts the program and prints its process id.
///
/// # Errors
/// In words, for the process that asked for it.
pub fn launch(arguments: &[OsString]) -> Result<(), String> {
    let [user, log, program, rest @ ..] = arguments else { return Err("too few arguments".to_owned()) };
    let (user, shown) = (user.to_string_lossy(), log.to_string_lossy());
    let account = User::from_name(&user).ok().flatten().ok_or_else(|| format!("there is no user {user}"))?;
    if Uid::effective().is_root() {
        drop_to(&account).map_err(|error| format!("cannot become {user}: {error}"))?;
    }
    setsid().map_err(|error| format!("cannot leave the session: {error}"))?;
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(log);
    let failed = |error: std::io::Error| format!("cannot open the log {shown}: {error}");
    let (out, err) = (open().map_err(failed)?, open().map_err(failed)?);
    let child = Command::new(program)
        .args(rest)
        .current_dir("/")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("PGDATA")
        .env("LC_MESSAGES", "C")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", program.to_string_lossy()))?;
    println!("{}", child.id());
    Ok(())
}

fn drop_to(account: &User) -> nix::Result<()> {
    if account.uid.is_root() {
        return Err(nix::errno::Errno::EPERM);
    }
    let name = std::ffi::CString::new(account.name.as_str()).map_err(|_| nix::errno::Errno::EINVAL)?;
    initgroups(&name, account.gid)?;
    setgid(Gid::from_raw(account.gid.as_raw()))?;
    setuid(account.uid)
}
