//! Programs that may take long, say much or hang: run to their end, or to the end of somebody's patience.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{Account, Host, WATCH_EVERY, quiet_command, said};
use crate::error::{Error, Result};
use crate::source::command::run::{Started, has_ended};

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
    /// Whether it works with a copy: nothing of our environment shall lead a client of PostgreSQL's to another server
    /// (`PGHOSTADDR`, `PGSERVICE` and others go before or beside what the command line says).
    pub of_the_copy: bool,
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
    /// Ends what the programs that were run with this in their environment have left behind, wherever it went.
    pub fn end_left_behind(&self, environment: &[(&str, String)]) {
        end_those_with(&environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>());
    }

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
        if program.of_the_copy {
            let names = std::env::vars_os().map(|(name, _)| name);
            lead_nowhere_else(&mut command, account, names);
        }
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        let out = match program.output_to_nowhere {
            true => File::options().write(true).open("/dev/null"),
            false => output.try_clone(),
        };
        command.stdout(out.map_err(cannot)?).stderr(output.try_clone().map_err(cannot)?).process_group(0);
        let mut child = command.spawn().map_err(cannot)?;
        let group = Pid::from_raw(child.id().cast_signed());
        let waited = wait_while(group, go_on);
        // What it has left in the background would go on with what is about to be removed. As long as it is not reaped, the
        // number of its group is nobody else's.
        let _ = killpg(group, Signal::SIGKILL);
        let status = child.wait().map_err(cannot)?;
        Ok(Ran { status: status.code(), cut_short: waited.map_err(cannot)?, said: said(output) })
    }
}

/// Ends what has all of this in its environment, `NAME=value`: what a program of ours has left in a group or a session of its
/// own. Whoever may not be looked at, or be ended, is not ours.
fn end_those_with(marks: &[String]) {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for process in numbers.map(Pid::from_raw).filter(|process| *process != Pid::this()) {
        let Some(started) = Started::of(process) else { continue };
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let has = |mark: &String| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
        // Another process may have got its number meanwhile.
        if !marks.is_empty() && marks.iter().all(has) && started.is_there() {
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}

/// Takes what `libpq` heeds out of an environment with these names. A client looks for its files in the home of the user
/// that it runs as.
fn lead_nowhere_else(command: &mut Command, account: &Account, names: impl Iterator<Item = OsString>) {
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    if let Some(home) = &account.home {
        command.env("HOME", home);
    }
}

/// Waits for its end, or makes one, and says whether it did; it is not reaped.
fn wait_while(group: Pid, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut asked: Option<Instant> = None;
    while !has_ended(group)? {
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
    Ok(asked.is_some())
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
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            output_to_nowhere,
            of_the_copy: true,
        };
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

    #[test]
    fn what_has_left_its_group_is_found_by_its_environment() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script =
            format!("setsid sh -c 'echo $$ > {0}; exec sleep 600' & until [ -s {0} ]; do :; done", pid.display());
        let environment = [("WALBACK_TEST_OF", directory.path().display().to_string()), ("OTHER", "x".to_owned())];
        let arguments = ["-c".to_owned(), script];
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            output_to_nowhere: false,
            of_the_copy: true,
        };
        let host = Host::new(false).unwrap();
        assert!(host.run_while(&current_account(), &program, &|| true).unwrap().succeeded());
        let left: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        host.end_left_behind(&[environment[0].clone(), ("OTHER", "y".to_owned())]);
        host.end_left_behind(&[]);
        assert!(crate::engine::server::is_alive(left), "it is another one's");
        host.end_left_behind(&environment);
        let start = Instant::now();
        while crate::engine::server::is_alive(left) {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(WATCH_EVERY);
        }
    }

    /// A connection's address in our environment goes before the socket that the command line names.
    #[test]
    fn a_client_of_the_copy_is_led_nowhere_else() {
        let script = "echo \"$HOME ${PGHOSTADDR-none} $OTHER\"";
        let account = Account { home: Some("/home/of-the-server".into()), ..current_account() };
        let mut command = quiet_command(&account, Path::new("/bin/sh"), &["-c", script]);
        command.env("PGHOSTADDR", "192.0.2.1").env("OTHER", "stays");
        lead_nowhere_else(&mut command, &account, ["PGHOSTADDR", "OTHER"].map(OsString::from).into_iter());
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/home/of-the-server none stays\n");
    }
}
