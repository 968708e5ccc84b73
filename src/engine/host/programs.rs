//! Programs that may take long, say much or hang: run to their end, or to the end of somebody's patience.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{Account, Host, WATCH_EVERY, quiet_command, said};
use crate::error::{Error, Result};

/// How long a program may take that was asked to end, before it is made to.
const GRACE: Duration = Duration::from_secs(2);

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// What its environment has besides ours.
    pub environment: &'a [(&'a str, String)],
    /// Whether what it writes to its standard output is of no interest: all of a database, say.
    pub output_to_nowhere: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// It was made to end, because there was no patience left.
    pub cut_short: bool,
    /// What it said, on both its outputs, the end of it where that is very much.
    pub said: String,
}

impl Ran {
    /// Whether it came to a good end by itself.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status == Some(0) && !self.cut_short
    }
}

impl Host {
    /// Runs a program as `account`, with its own process group, without a terminal; `false` of `go_on`, which is asked
    /// again and again, has it and all that it started interrupted, and soon killed. Nothing of its group is left behind.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run_while(&self, account: &Account, program: &Program<'_>, go_on: &dyn Fn() -> bool) -> Result<Ran> {
        let shown = || format!("{} {}", program.path.display(), program.arguments.join(" "));
        let cannot =
            |error: io::Error| Error::failed("program-failed", format!("cannot run {}", shown())).caused_by(&error);
        // A file and not a pipe: nobody has to read it meanwhile.
        let output = memfd_create(c"said", MFdFlags::MFD_CLOEXEC).map_err(|error| cannot(error.into()))?;
        let output = File::from(output);
        let mut command = quiet_command(account, program.path, program.arguments);
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        let out = match program.output_to_nowhere {
            true => File::options().write(true).open("/dev/null"),
            false => output.try_clone(),
        };
        command.stdout(out.map_err(cannot)?).stderr(output.try_clone().map_err(cannot)?).process_group(0);
        let mut child = command.spawn().map_err(cannot)?;
        let (status, cut_short) = wait_while(&mut child, go_on).map_err(cannot)?;
        // What it has left in the background would go on with what is about to be removed.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        Ok(Ran { status: status.code(), cut_short, said: said(output) })
    }
}

/// Waits for its end, or makes one.
fn wait_while(child: &mut Child, go_on: &dyn Fn() -> bool) -> io::Result<(std::process::ExitStatus, bool)> {
    let group = Pid::from_raw(child.id().cast_signed());
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, asked.is_some()));
        }
        match asked {
            None if !go_on() => {
                asked = Some(Instant::now());
                signal(group, Signal::SIGINT);
            }
            Some(since) if since.elapsed() > GRACE => signal(group, Signal::SIGKILL),
            _ => {}
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// Sends it to the whole group; to its leader, where there is no group yet.
fn signal(group: Pid, signal: Signal) {
    if killpg(group, signal) == Err(Errno::ESRCH) {
        let _ = kill(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::super::current_account;
    use super::*;

    fn run(script: &str, go_on: &dyn Fn() -> bool, output_to_nowhere: bool) -> Ran {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let environment = [("WHO", "me".to_owned())];
        let program =
            Program { path: Path::new("/bin/sh"), arguments: &arguments, environment: &environment, output_to_nowhere };
        Host::new(false).unwrap().run_while(&current_account(), &program, go_on).unwrap()
    }

    #[test]
    fn what_it_says_and_how_it_ends_is_told() {
        let ran = run("echo to $WHO; echo and me >&2; exit 3", &|| true, false);
        assert_eq!((ran.status, ran.cut_short, ran.said.as_str()), (Some(3), false, "to me\nand me"));
        let ran = run("echo much; echo and me >&2", &|| true, true);
        assert!(ran.succeeded() && ran.said == "and me", "{ran:?}");
    }

    #[test]
    fn who_does_not_end_is_made_to_and_so_is_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let begun = || !pid.exists() || std::fs::read_to_string(&pid).unwrap().trim().is_empty();
        let script = format!("trap '' INT; sleep 600 & echo $! > {}; wait; sleep 600", pid.display());
        let ran = run(&script, &begun, false);
        assert!(ran.cut_short && !ran.succeeded(), "{ran:?}");
        let child: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        let start = Instant::now();
        while crate::engine::server::is_alive(child) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(WATCH_EVERY);
        }
    }
}
