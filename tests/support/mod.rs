//! Real PostgreSQL servers, their archives and base backups, the program, and a terminal to run it in.
//!
//! A test makes a [`Directory`] and everything in it; when that is dropped, also in a panic, the servers below it are
//! stopped and it is removed. Servers run as the user `postgres` where the tests are run by root, else as ourselves.
//! What the tests need and cannot do ends them with a message that says what was tried: nothing here returns errors.

// Each test program includes this module and uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]
// A test that cannot go on stops.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answer;
mod backup;
mod cluster;
mod digest;
mod directory;
mod history;
mod incremental;
mod operator;
mod packed;
mod picture;
mod program;
mod random;
mod server;
mod tmux;
mod traced;
mod waldump;

pub use answer::{Answer, Running, as_operator, ask};
pub use backup::{Backup, Format};
pub use cluster::{Cluster, LIMIT, Options, Session, Stop};
pub use digest::{TreeDigest, tree_digest};
pub use directory::Directory;
pub use history::{History, ROWS, Transaction, rows};
pub use incremental::Incremental;
pub use operator::{
    Abandoned, Gate, Operator, assert_is, assert_paused, auto_conf_names, connection_to, is_running, is_worked_in,
    postmaster, sql, within_seconds,
};
pub use packed::{FORMS, Pack, bzip2, gzip, lz4, xz, zstd};
pub use picture::{svg, text_of};
pub use program::walback;
pub use random::Random;
pub use server::{Server, as_server, client, server_user};
pub use tmux::{Tmux, press};
pub use traced::{Moment, Traced, run_and_kill};
pub use waldump::{Dump, Ended, Said, Told, Waldump, What, assert_same, said_by_walback};

use std::fmt::Write as _;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks `condition` until it gives a value; panics when that takes longer than `limit`.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "after {limit:?}, still no {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Runs a command that has to succeed and gives its standard output, without the last line's end.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{}", describe(command, &output));
    let text = String::from_utf8_lossy(&output.stdout);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// What was run and what came out, for the message of a failed test.
pub fn describe(command: &Command, output: &Output) -> String {
    let mut text = format!("{command:?}: {}", output.status);
    for (name, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        if !bytes.is_empty() {
            let _ = write!(text, "\n--- {name}\n{}", String::from_utf8_lossy(bytes).trim_end());
        }
    }
    text
}
