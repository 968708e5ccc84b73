//! Renames the data directory that is where a recovery goes. Nothing in it is changed, and nothing is ever removed.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::plan::{MakeWay, Plan};

use super::super::host::Host;
use super::super::occupant::{is_same, server_in, stays};
use super::super::remains::at_work_on;

/// Whether the directory has the name that the plan gives it.
#[must_use]
pub fn is_done(former: &MakeWay) -> bool {
    is_same(&former.to, &former.identity)
}

/// Renames the plan's occupied directory, unless that was done before it was interrupted.
///
/// # Errors
/// When it is not the directory that was planned with, when it must stay, or when it cannot be renamed. A server that was
/// started in it at that very moment finds it where it was.
pub fn make_way(host: &Host, plan: &Plan) -> Result<()> {
    let Some(former) = &plan.make_way else { return Ok(()) };
    if is_done(former) {
        return Ok(());
    }
    let directory = &plan.directory;
    if !is_same(directory, &former.identity) {
        return Err(Error::failed(
            "occupant-changed",
            format!("this is not the data directory that was to make way: {}", directory.display()),
        )
        .because("it was moved, or made anew, since the plan was made".to_owned())
        .hint("look at it, discard this recovery, and make the plan again"));
    }
    let refused = |why: &str| {
        Error::failed("cannot-make-way", format!("{} cannot make way: {why}", directory.display())).hint(format!(
            "nothing was changed; “walback resume {}” tries it again, “walback discard {0}” gives it up",
            plan.recovery
        ))
    };
    let mut sources: Vec<PathBuf> = plan.wal.clone();
    sources.extend(plan.backups_read().map(|backup| backup.location.clone()));
    let needed = [plan.server.bin_dir.clone()];
    if let Some(why) = stays(directory, &sources, &needed) {
        return Err(refused(&why));
    }
    host.move_aside(directory, &former.to)?;
    let is_it = is_done(former);
    let server = server_of(directory, &former.to);
    if is_it && server.is_none() {
        return Ok(());
    }
    host.move_aside(&former.to, directory)?;
    Err(match server {
        Some(pid) => refused(&format!("a server was started in it just now: process {pid}")),
        None => refused("something else was put in its place just now"),
    })
}

/// A process of a server in the directory that was renamed. One that was being started at that moment has the old name
/// among its words, whichever of the two it works in.
fn server_of(directory: &Path, to: &Path) -> Option<u32> {
    server_in(to).or_else(|| at_work_on(directory, None).first().copied())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::engine::mark::identity;
    use crate::plan::example;

    #[test]
    fn it_is_renamed_once_and_only_that_directory_and_over_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let host = Host::new(false).unwrap();
        let directory = parent.path().join("shop");
        fs::create_dir_all(directory.join("global")).unwrap();
        fs::write(directory.join("PG_VERSION"), "15\n").unwrap();
        fs::write(directory.join("global/pg_control"), "x").unwrap();
        let former = MakeWay { to: parent.path().join("shop.old"), identity: identity(&directory).unwrap() };
        let plan = Plan { directory: directory.clone(), make_way: Some(former.clone()), ..example() };
        let code = |plan: &Plan| make_way(&host, plan).map_err(|error| error.report().code);

        fs::create_dir(&former.to).unwrap();
        assert_eq!(code(&plan), Err("cannot-rename"), "an empty one is something, too");
        fs::remove_dir(&former.to).unwrap();
        fs::write(directory.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!((code(&plan), code(&plan)), (Ok(()), Ok(())));
        assert_eq!(fs::read(former.to.join("global/pg_control")).unwrap(), b"x");
        assert!(!directory.exists());

        // Another one has come to its place: that is nobody's to rename.
        fs::create_dir(&directory).unwrap();
        assert_eq!(code(&plan), Ok(()));
        let other = Plan { make_way: Some(MakeWay { to: parent.path().join("other"), ..former }), ..plan };
        assert_eq!(code(&other), Err("occupant-changed"));
        assert!(directory.exists());
    }

    #[test]
    fn a_server_that_was_called_by_the_old_name_is_one() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, to) = (parent.path().join("shop"), parent.path().join("shop.old"));
        fs::create_dir(&to).unwrap();
        assert_eq!(server_of(&directory, &to), None);
        let mut command = Command::new("sh");
        command.arg0("/usr/lib/postgresql/15/bin/pg_ctl").args(["-c", "echo; read -r line", "-D"]).arg(&directory);
        let mut starting = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It is what it is called from its first word on.
        std::io::Read::read_exact(starting.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert_eq!(server_of(&directory, &to), Some(starting.id()));
        drop(starting.stdin.take());
        starting.wait().unwrap();
        assert_eq!(server_of(&directory, &to), None);
    }
}
