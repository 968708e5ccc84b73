//! Archives of compressed segments are read as plain ones are, and recovered from where the system can unpack them.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use support::{Directory, FORMS, History, Operator, Pack, ask};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// Packs every file of an archive, history files too, in one of the forms after the other.
fn pack(archive: &Path, forms: &[(&str, Pack)]) {
    let mut names: Vec<_> = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for (path, (ending, pack)) in names.iter().zip(forms.iter().cycle()) {
        let packed = pack(&fs::read(path).unwrap());
        fs::write(format!("{}.{ending}", path.display()), packed).unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn every_form_is_read_as_the_plain_one_is() {
    let plain_directory = Directory::new();
    let plain = Operator::of(&plain_directory, &HISTORY, "");
    let mut mixed = vec![("mixed", FORMS.to_vec())];
    mixed.extend(FORMS.map(|form| (form.0, vec![form])));
    for (name, forms) in mixed {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "");
        pack(&operator.archive, &forms);
        for words in [&["points"][..], &["suspects"], &["timelines"], &["locate", "--name", "trunk", "--timeline", "1"]]
        {
            let told = ask(&mut operator.command(words)).ended_with(0);
            let expected = ask(&mut plain.command(words)).ended_with(0);
            assert_eq!(told.out, expected.out, "{name}: {words:?}");
        }
    }
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_read() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    pack(&operator.archive, &FORMS[..1]);
    let mut names: Vec<_> = fs::read_dir(&operator.archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let segments: Vec<_> = names.iter().filter(|path| name(path).len() == 24).collect();
    let damaged = segments[segments.len() / 3];
    let bytes = fs::read(damaged).unwrap();
    fs::write(damaged, &bytes[..bytes.len() / 2]).unwrap();
    let missing = segments[segments.len() / 3 + 2];
    fs::remove_file(missing).unwrap();
    let told = ask(&mut operator.command(&["points"]));
    assert!(told.err.contains(&name(damaged)), "{}", told.err);
    assert!(told.err.contains(&format!("lacks {}", name(missing))), "{}", told.err);
    assert!(told.lines().len() > 10);
}

/// The last segment as `pg_receivewal --compress` leaves it, or an `archive_command` that packs what a promotion left.
#[test]
fn a_packed_partial_is_read_as_the_plain_one_is() {
    let last = |operator: &Operator<'_>| {
        let names = fs::read_dir(&operator.archive).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_str().unwrap().contains("/00000001") && path.extension().is_none()).max().unwrap()
    };
    let plain_directory = Directory::new();
    let plain = Operator::of_copies(&plain_directory, &HISTORY, "");
    let path = last(&plain);
    fs::rename(&path, format!("{}.partial", path.display())).unwrap();
    for (ending, pack) in FORMS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "");
        let path = last(&operator);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // `pg_receivewal` writes no zeros behind what it received.
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for (name, bytes) in [("partial.", &bytes[..]), ("", &bytes[..written])] {
            let behind = if name.is_empty() { ".partial" } else { "" };
            let packed = format!("{}.{name}{ending}{behind}", path.display());
            fs::write(&packed, pack(bytes)).unwrap();
            for words in [&["points"][..], &["timelines"], &["locate", "--latest", "--timeline", "1"]] {
                let told = ask(&mut operator.command(words)).ended_with(0);
                let expected = ask(&mut plain.command(words)).ended_with(0);
                assert_eq!(told.out, expected.out, "{packed}: {words:?}");
            }
            let checked = ask(&mut operator.command(&["check"])).json();
            let findings = checked["findings"].as_array().unwrap();
            let finding = findings.iter().find(|finding| finding["code"] == "partial-segment").unwrap();
            assert!(finding["message"].as_str().unwrap().ends_with("recoveries use it"), "{packed}: {finding}");
            assert!(packed.ends_with(finding["file"].as_str().unwrap()), "{packed}: {finding}");
            fs::remove_file(&packed).unwrap();
        }
    }
}

/// A name that ends in another form than the file has is not believed. One without an ending says nothing, and what is
/// packed under it is read.
#[test]
fn a_file_that_is_packed_otherwise_than_its_name_says_is_named() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    let mut names: Vec<_> = fs::read_dir(&operator.archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.to_str().unwrap().contains("/00000001") && path.extension().is_none());
    names.sort();
    let (plain, called_gz) = (&names[1], &names[2]);
    fs::write(plain, FORMS[3].1(&fs::read(plain).unwrap())).unwrap();
    fs::write(format!("{}.gz", called_gz.display()), FORMS[4].1(&fs::read(called_gz).unwrap())).unwrap();
    fs::remove_file(called_gz).unwrap();
    let told = ask(&mut operator.command(&["check"])).out;
    assert!(told.contains("packed with bzip2, and its name ends in .gz instead of .bz2"), "{told}");
    assert!(!told.contains(&plain.display().to_string()), "{told}");
}

/// Walback unpacks for the server, which needs no other program for it.
#[test]
fn a_recovery_takes_wal_from_a_compressed_archive() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    pack(&operator.archive, &FORMS[..1]);
    let expected = &HISTORY.transaction("accident").before;
    let xid = &HISTORY.transaction("accident").xid;
    operator.recovers("packed", &["--xid", xid, "--exclusive", "--timeline", "1"], expected);
    operator.discards("packed");
}

#[test]
fn a_program_that_is_not_there_is_said_before() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    pack(&operator.archive, &FORMS[1..]);
    let into = operator.place("never");
    let mut command = operator.command(&["plan", "--latest", "--into", into.to_str().unwrap()]);
    // Where PostgreSQL's programs are is found without it.
    let programs = directory.create("programs");
    std::os::unix::fs::symlink("/usr/bin/test", programs.join("test")).unwrap();
    command.env("PATH", programs);
    let plan = ask(&mut command).ended_with(0).json();
    assert!(plan["plan"]["fetch"]["by_hand"].as_str().unwrap().contains("zstd -dcq"), "{plan}");
    let findings = plan["plan"]["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["code"] == "decompressor-missing").unwrap();
    assert_eq!(finding["severity"], "note", "Walback unpacks it itself, and only the runbook needs them");
    assert!(finding["message"].as_str().unwrap().contains("lz4, zstd, xz, bzip2"), "{finding}");
    assert!(finding["hint"].as_str().unwrap().contains("apt-get install lz4 zstd xz-utils bzip2"), "{finding}");
}
