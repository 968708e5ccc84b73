//! The program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Directory;
use super::server::{as_server, server_user};

/// A command that runs Walback in `directory`, with a home, a state directory and a configuration of its own there and
/// nothing of our environment; times in UTC, no colour.
pub fn walback(directory: &Directory) -> Command {
    let home = directory.path().join("home");
    fs::create_dir_all(&home).unwrap();
    let mut command = Command::new(program(directory));
    command.current_dir(directory.path()).env_clear();
    // Coverage is written where the whole run wants it.
    for name in ["PATH", "LLVM_PROFILE_FILE"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    for (name, place) in [
        ("HOME", ""),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_DATA_HOME", ".local/share"),
        ("WALBACK_STATE_DIR", "state"),
    ] {
        command.env(name, home.join(place));
    }
    command.envs([("TZ", "UTC"), ("NO_COLOR", "1"), ("LC_ALL", "C.UTF-8"), ("TERM", "dumb")]);
    command
}

/// The program, or a copy in `directory` where the servers' user cannot run the original: a recovering server runs it
/// as its `restore_command`.
fn program(directory: &Directory) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_walback"));
    let runs = |path: &Path| as_server("test").arg("-x").arg(path).status().is_ok_and(|status| status.success());
    if server_user().is_none() || runs(program) {
        return program.to_owned();
    }
    let copy = directory.path().join("walback");
    if !copy.exists() {
        fs::copy(program, &copy).unwrap();
    }
    copy
}
