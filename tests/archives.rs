//! Archives as PostgreSQL's tools and the usual scripts leave them: whatever form they have, they are read and recovered
//! from as the plain one is. What single forms need besides is in `compressed.rs`, `fetch.rs` and `fetched.rs`.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use support::{Directory, History, Operator, ask, assert_paused, run, tree_digest};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// The programs that scripts pack with, and what they add to a file's name.
const PROGRAMS: [(&str, &str); 5] =
    [("gzip", ".gz"), ("lz4", ".lz4"), ("zstd", ".zst"), ("xz", ".xz"), ("bzip2", ".bz2")];

/// The names of an archive's files, in order.
fn names(archive: &Path) -> Vec<String> {
    let names = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Packs a file by the system's program, under another name.
fn pack(program: &str, from: &Path, to: &Path) {
    let (input, output) = (File::open(from).unwrap(), File::create(to).unwrap());
    assert!(Command::new(program).args(["-1", "-c"]).stdin(input).stdout(output).status().unwrap().success());
    fs::remove_file(from).unwrap();
}

/// Every file packed, with an ending or without: one in each form, and one of six as it is.
fn packed(archive: &Path, marked: bool) {
    for (name, form) in names(archive).iter().zip(PROGRAMS.iter().map(Some).chain([None]).cycle()) {
        let Some((program, ending)) = form else { continue };
        let (file, aside) = (archive.join(name), archive.join("aside"));
        fs::rename(&file, &aside).unwrap();
        pack(program, &aside, &archive.join(format!("{name}{}", if marked { ending } else { "" })));
    }
}

/// Into folders of this many digits, but for history files.
fn sorted(archive: &Path, digits: usize) {
    for name in names(archive).into_iter().filter(|name| name.len() > digits && !name.contains(".history")) {
        let folder = archive.join(&name[..digits]);
        fs::create_dir_all(&folder).unwrap();
        fs::rename(archive.join(&name), folder.join(&name)).unwrap();
    }
}

/// What somebody did to an archive who stores it in another form.
type Form = fn(&Path);

/// Each form, by name, but for those with one packing alone.
const FORMS: [(&str, Form); 6] = [
    ("every packing in one directory", |archive| packed(archive, true)),
    ("folders as Barman has them", |archive| sorted(archive, 16)),
    ("folders as Barman has them, packed and called as if not", |archive| {
        packed(archive, false);
        sorted(archive, 16);
    }),
    ("a folder for each timeline, with its history file, packed", |archive| {
        packed(archive, true);
        sorted(archive, 8);
        for name in names(archive).into_iter().filter(|name| name.contains(".history")) {
            let folder = archive.join(&name[..8]);
            fs::create_dir_all(&folder).unwrap();
            fs::rename(archive.join(&name), folder.join(&name)).unwrap();
        }
    }),
    ("packed and called as if not", |archive| packed(archive, false)),
    ("all at once", |archive| {
        let aside = archive.join("aside");
        fs::create_dir(&aside).unwrap();
        for name in names(archive).into_iter().filter(|name| name != "aside").step_by(3) {
            fs::rename(archive.join(&name), aside.join(&name)).unwrap();
        }
        packed(&aside, true);
        sorted(&aside, 8);
        run(Command::new("sh").args(["-c", "cd \"$1\" && cp -a aside/. . && rm -r aside", "sh"]).arg(archive));
        for name in names(archive).into_iter().filter(|name| name.len() == 24).step_by(2) {
            let folder = archive.join(&name[..16]);
            fs::create_dir_all(&folder).unwrap();
            fs::rename(archive.join(&name), folder.join(&name)).unwrap();
        }
    }),
];

#[test]
fn every_form_says_what_the_plain_one_says() {
    let plain_directory = Directory::new();
    let plain = Operator::of(&plain_directory, &HISTORY, "");
    for (name, arrange) in FORMS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "");
        arrange(&operator.archive);
        let before = tree_digest(&operator.archive);
        for words in [&["points"][..], &["timelines"], &["backups"], &["locate", "--name", "on the branch"]] {
            let told = ask(&mut operator.command(words)).ended_with(0);
            let expected = ask(&mut plain.command(words)).ended_with(0);
            let backups = |text: &str| text.replace("the-backup", "backups").replace(directory_of(&operator), "");
            assert_eq!(
                backups(&told.out),
                backups(&expected.out.replace(HISTORY.directory.path().to_str().unwrap(), "")),
                "{name}: {words:?}"
            );
        }
        let (told, expected) = (findings(&operator), findings(&plain));
        assert_eq!(told, expected, "{name}");
        tree_digest(&operator.archive).assert_same_as(&before);
    }
}

fn directory_of<'a>(operator: &'a Operator<'_>) -> &'a str {
    operator.directory.path().to_str().unwrap()
}

/// What `check` finds, by code and file.
fn findings(operator: &Operator<'_>) -> Vec<(String, String)> {
    let report = ask(&mut operator.command(&["check"])).ended_with(0).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter();
    found.map(|finding| (text(&finding["code"]), text(&finding["file"]))).collect()
}

#[test]
fn every_form_is_recovered_from() {
    let (accident, branch) = (HISTORY.transaction("accident"), &HISTORY.restore_points["on the branch"]);
    for (number, (name, arrange)) in FORMS.into_iter().enumerate() {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
        arrange(&operator.archive);
        let before = tree_digest(&operator.archive);
        // Along one timeline and over a fork in turn.
        let (words, rows) = match number % 2 {
            0 => (&["--xid", &accident.xid, "--exclusive", "--timeline", "1"][..], &accident.before),
            _ => (&["--name", "on the branch"][..], branch),
        };
        let recovery = ask(&mut operator.restore("copy", words)).ended_with(0).recovery();
        assert_paused(&recovery, rows);
        let log = fs::read_to_string(operator.place("copy").join(".walback/server.log")).unwrap();
        assert!(!log.contains("warning: ") && !log.contains("error: "), "{name}: {log}");
        operator.discards("copy");
        tree_digest(&operator.archive).assert_same_as(&before);
    }
}

/// The runbook's shell alone finds what Walback finds.
#[test]
fn the_shell_gets_every_file_of_every_form() {
    for (name, arrange) in FORMS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
        let plain: Vec<String> =
            names(&operator.archive).into_iter().filter(|name| !name.contains(".backup")).collect();
        arrange(&operator.archive);
        let into = operator.place("never").display().to_string();
        let plan =
            ask(&mut operator.command(&["plan", "--name", "on the branch", "--into", &into])).ended_with(0).json();
        let by_hand = plan["plan"]["fetch"]["by_hand"].as_str().unwrap().to_owned();
        let data = directory.create("data");
        fs::create_dir(data.join("pg_wal")).unwrap();
        let get = |file: &str| {
            let to: PathBuf = data.join("pg_wal/RECOVERYXLOG");
            let command = by_hand.replace("%f", file).replace("%p", to.to_str().unwrap()).replace("%%", "%");
            let status = Command::new("sh").arg("-c").arg(command).current_dir(&data).stdout(Stdio::null()).status();
            (status.unwrap().code(), fs::read(&to).unwrap_or_default())
        };
        for file in plain {
            let expected = fs::read(HISTORY.archive.join(&file)).unwrap();
            assert!(get(&file) == (Some(0), expected), "{name}: {file}");
        }
        assert_eq!(get("0000000100000000000000FF").0, Some(1), "{name}");
        assert_eq!(get("00000009.history").0, Some(1), "{name}");
    }
}
