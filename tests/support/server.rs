//! Where the PostgreSQL programs of each major are, and how they are run.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, geteuid};

use super::Directory;

/// The user that servers run as, where that is not ourselves: PostgreSQL refuses root.
pub fn server_user() -> Option<User> {
    geteuid().is_root().then(|| {
        let user = User::from_name("postgres").unwrap();
        user.expect("root runs the tests' servers as the user postgres, and there is none: install PostgreSQL")
    })
}

/// A command that is run as the servers' user, with nothing of our environment but the path.
pub fn as_server(program: impl AsRef<OsStr>) -> Command {
    let mut command = match server_user() {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
            command.arg("--init-groups").arg("--").arg(program);
            command
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
    command
}

/// Where majors may be installed; the last is what `tests/postgres-majors.sh` fills.
fn places(major: u16) -> [PathBuf; 3] {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres").join(major.to_string());
    [format!("/usr/lib/postgresql/{major}").into(), format!("/usr/pgsql-{major}").into(), fetched]
}

/// Whether the servers' user can run `program`, and it is of that major.
fn can_run(program: &Path, major: u16) -> bool {
    let output = as_server(program).arg("--version").output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_once("(PostgreSQL) ").is_some_and(|(_, version)| version.starts_with(&major.to_string()))
    })
}

/// A program of that major, where one is installed that can be run; else `otherwise`, if that can.
pub(super) fn installed(major: u16, program: &str, otherwise: Option<PathBuf>) -> Option<PathBuf> {
    let programs = places(major).into_iter().map(|place| place.join("bin").join(program)).chain(otherwise);
    programs.filter_map(|program| program.canonicalize().ok()).find(|program| can_run(program, major))
}

/// Says on standard error, past what `cargo test` keeps of a test that passes, why this test does nothing.
pub(super) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // One write, so that lines of other tests do not mix with it.
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The server programs of one PostgreSQL major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Like 15.
    pub major: u16,
    /// The directory of `initdb`, `pg_ctl` and `postgres`, maybe of more.
    pub bin_dir: PathBuf,
}

impl Server {
    /// The majors that Walback recovers.
    pub const MAJORS: [u16; 6] = [13, 14, 15, 16, 17, 18];

    /// The server of `major`, where it is there and can be run. Where it is not, that is said on standard error, past
    /// what `cargo test` keeps of a test that passes. 15 has to be there.
    #[track_caller]
    pub fn available(major: u16) -> Option<Server> {
        // A path without links, since a server's user may be able to enter it and not the link's directory.
        let bin_dirs = places(major).into_iter().filter_map(|place| place.join("bin").canonicalize().ok());
        let mut servers = bin_dirs.map(|bin_dir| Server { major, bin_dir });
        let server = servers.find(|server| can_run(&server.bin_dir.join("postgres"), major));
        if server.is_none() {
            assert!(major != 15, "PostgreSQL 15 is missing: run tests/run.sh, which says what to install");
            skip(&format!("there is no PostgreSQL {major}; tests/run.sh fetches it"));
        }
        server
    }

    /// The server of 15, which is always there.
    #[track_caller]
    pub fn v15() -> Server {
        Server::available(15).expect("PostgreSQL 15")
    }

    /// A command that runs one of its programs as the servers' user.
    pub fn command(&self, program: &str) -> Command {
        as_server(self.bin_dir.join(program))
    }

    /// A directory with its programs whose server is always started with one more option, which nothing in its files can
    /// change.
    #[track_caller]
    pub fn with_option(&self, directory: &Directory, option: &str) -> String {
        let bin = directory.create("programs");
        for program in fs::read_dir(&self.bin_dir).unwrap() {
            let program = program.unwrap();
            let place = bin.join(program.file_name());
            if program.file_name() != "postgres" && !place.is_symlink() {
                symlink(program.path(), place).unwrap();
            }
        }
        let postgres = self.bin_dir.join("postgres");
        let script = format!(
            "#!/bin/sh\ncase $1 in -D) exec {0} \"$@\" {option};; *) exec {0} \"$@\";; esac\n",
            postgres.display()
        );
        let postgres = directory.write("programs/postgres", script);
        fs::set_permissions(postgres, fs::Permissions::from_mode(0o755)).unwrap();
        bin.display().to_string()
    }

    /// A command that runs `pg_basebackup`, if one is installed that talks to this major: it refuses newer ones.
    pub fn pg_basebackup(&self) -> Option<Command> {
        let installed = Server::MAJORS.into_iter().filter(|major| *major >= self.major);
        let programs = installed.flat_map(|major| places(major).map(|place| place.join("bin/pg_basebackup")));
        let program = programs.filter_map(|program| program.canonicalize().ok()).next()?;
        Some(as_server(program))
    }
}

/// A command that runs one of the system's client programs (`psql`, …) as the servers' user; 15's talk to all majors.
pub fn client(program: &str) -> Command {
    let installed = Server::MAJORS.into_iter().rev().flat_map(places);
    let found = installed.map(|place| place.join("bin").join(program)).find(|path| path.exists());
    found.map_or_else(|| as_server(program), as_server)
}
