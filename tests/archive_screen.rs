//! The Archive and Log screens in a real terminal: a real archive with a gap and a damaged segment, a real primary that
//! is asked and then is not there, and the log of a real recovery.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::{Cluster, Directory, Format, Options, Server, Stop, Tmux, press, run, tree_digest, walback};

/// How long anything may take; far more than it should, for busy machines.
const LIMIT: Duration = Duration::from_secs(60);

/// The program with this cluster as its source, and the cluster's own server as the primary.
fn program(directory: &Directory, cluster: &Cluster<'_>, arguments: &[&str]) -> Command {
    let here = directory.path().display();
    let configuration = format!(
        "sources:\n  shop:\n    backups: [{{path: {here}/backups}}]\n    wal: [{{path: {here}/archive}}]\n    \
         primary: \"{}\"\n    restore: {{directory: {here}/restored}}\n",
        cluster.connection()
    );
    let file = directory.write("walback.yaml", configuration);
    let mut command = walback(directory);
    command.arg("--config").arg(file).args(arguments);
    command
}

#[test]
fn what_is_missing_and_damaged_is_told_and_gone_to_and_the_primary_is_asked() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table orders (n int)");
    cluster.base_backup(Format::TarGz, "nightly");
    let segments: Vec<String> = (0..6)
        .map(|n| {
            cluster.psql(&format!("insert into orders select generate_series(1, {n})"));
            cluster.switch_and_wait_archived()
        })
        .collect();
    let archived = |name: &String| -> PathBuf { directory.path().join("archive").join(name) };
    // One is gone, and of another the middle is lost.
    fs::remove_file(archived(&segments[1])).unwrap();
    let mut bytes = fs::read(archived(&segments[3])).unwrap();
    let from = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    bytes[from..from + 64].iter_mut().for_each(|byte| *byte ^= 0x5A);
    fs::write(archived(&segments[3]), bytes).unwrap();
    let evidence = ["backups", "archive"].map(|name| (name, tree_digest(&directory.path().join(name))));

    let tmux = Tmux::start(&directory, &program(&directory, &cluster, &[]), 120, 40);
    tmux.wait_for("archive ✗ critical", LIMIT);
    tmux.send(&["A"]);
    let screen = tmux.wait_for_screen("primary's answer", LIMIT, |screen| {
        screen.contains("every one read") && screen.contains("Last archived: ")
    });
    for words in [
        "✗ critical",
        "1 missing, 1 damaged",
        &format!("✗ missing    {}", segments[1]),
        &format!("segment {} is damaged behind", segments[3]),
        "nightly: all it needs is there",
        "and no further",
        "not needed by any base backup",
    ] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    // It says what the check says.
    let check = program(&directory, &cluster, &["check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(3));
    assert!(String::from_utf8(check.stdout).unwrap().contains(&format!("lacks {}", segments[1])));
    press(&tmux, "c", "every segment was read already");

    // The gap is gone to, and what it means is said there.
    let screen = press(&tmux, "Enter", "Recovery comes up to here and no further");
    assert!(screen.contains(&segments[1]), "{screen}");

    // A primary that is not there is said not to be, and nothing else suffers.
    cluster.stop(Stop::Fast);
    press(&tmux, "A", "Enter goes there on the home screen.");
    tmux.wait_for("the primary does not answer", LIMIT);
    press(&tmux, "Escape", "archive ✗ critical");

    press(&tmux, "d", "A drill proves the backups");
    press(&tmux, "Escape", "archive ✗ critical");
    tmux.send(&["q"]);
    assert_eq!(tmux.wait_for_exit(LIMIT), 0);
    for (name, before) in evidence {
        assert_eq!(tree_digest(&directory.path().join(name)), before, "{name} was changed");
    }
}

#[test]
fn the_log_of_a_recovery_is_read_as_it_is_written() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table orders (n int)");
    cluster.base_backup(Format::TarGz, "nightly");
    cluster.psql("insert into orders values (1)");
    cluster.restore_point("before_deploy");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let restore = ["restore", "--name", "before_deploy", "--yes"];
    run(&mut program(&directory, &cluster, &restore));

    let tmux = Tmux::start(&directory, &program(&directory, &cluster, &[]), 100, 30);
    tmux.wait_for("One is not finished.", LIMIT);
    press(&tmux, "Enter", "PAUSED AT THE TARGET");
    let screen = press(&tmux, "L", "recovery stopping at restore point");
    for words in ["Log of restored: follows the end", "pausing at the end of recovery", "server.log"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    press(&tmux, "/", "Find in the server's log");
    tmux.type_text("REDO STARTS");
    press(&tmux, "Enter", "is in 1 of the lines");
    press(&tmux, "G", "follows the end");

    // What the server writes from now on comes by itself: another process stops it.
    run(&mut program(&directory, &cluster, &["stop", "restored"]));
    tmux.wait_for("database system is shut down", LIMIT);
    run(&mut program(&directory, &cluster, &["discard", "restored", "--yes"]));
    tmux.send(&["q"]);
    assert_eq!(tmux.wait_for_exit(LIMIT), 0);
}
