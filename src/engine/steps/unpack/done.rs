//! What is unpacked already, for going on after an interruption: a line for each file, in Walback's own directory.
//!
//! A line is believed where it was synced after the file was, or where the machine has not been started again since:
//! what the system was given then is still there, whether it is on the disk or not. And only where the file is still the
//! one that was written: its inode, length and time of change are in the line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::plan::build::OWN_DIRECTORY;

use super::super::super::host::tree::{Known, Notes};
use super::super::super::host::{Account, Host, boot};

const NOTES: &str = "unpacked";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// These lines are about this backup.
    Backup(String),
    /// From here on, this run of the machine wrote them.
    Boot(Option<String>),
    /// A file is complete.
    File(String, Known),
    /// What stands before this byte is on the disk, and the files that it names are too.
    Synced(u64),
}

/// What is complete, and what becomes so.
pub(super) struct Done {
    /// `None` where nothing is unpacked, and only read.
    notes: Option<Notes>,
    known: HashMap<String, Known>,
}

/// Where the notes are.
fn place(directory: &Path) -> PathBuf {
    directory.join(OWN_DIRECTORY).join(NOTES)
}

impl Done {
    /// What an earlier run has left of `backup`, a text that is another one for every other backup; `None` where it has
    /// left nothing that can be gone on with.
    pub(super) fn left(host: &Host, directory: &Path, backup: &str) -> Option<Left> {
        let text = host.read_file(&place(directory)).ok()?;
        Left::read(&text, backup, boot().as_deref())
    }

    /// Begins the notes, with what is believed of those before.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn begin(host: &Host, directory: &Path, backup: &str, left: Left, owner: &Account) -> Result<Done> {
        let mut notes = host.open_notes(&place(directory), 0, owner)?;
        add(&mut notes, &Line::Backup(backup.to_owned()))?;
        add(&mut notes, &Line::Boot(boot()))?;
        for (name, known) in &left.synced {
            add(&mut notes, &Line::File(name.clone(), *known))?;
        }
        let synced = notes.bytes();
        add(&mut notes, &Line::Synced(synced))?;
        for (name, known) in &left.unsynced {
            add(&mut notes, &Line::File(name.clone(), *known))?;
        }
        notes.write()?;
        let mut known = left.synced;
        known.extend(left.unsynced);
        Ok(Done { notes: Some(notes), known })
    }

    /// Of a backup that is only read: nothing is noted.
    pub(super) fn nothing() -> Done {
        Done { notes: None, known: HashMap::new() }
    }

    /// What a complete file was when it was written.
    pub(super) fn known(&self, name: &Path) -> Option<Known> {
        self.known.get(name.to_str()?).copied()
    }

    /// Notes that a file is complete. One whose name is no text will be written again.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) fn add(&mut self, name: &Path, known: Known) -> Result<()> {
        let (Some(name), Some(notes)) = (name.to_str(), &mut self.notes) else { return Ok(()) };
        add(notes, &Line::File(name.to_owned(), known))?;
        if known.bytes >= 1 << 20 { notes.write() } else { Ok(()) }
    }

    /// How far the notes are, to be given to [`Done::synced`] when what they name is on the disk.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn so_far(&mut self) -> Result<u64> {
        let Some(notes) = &mut self.notes else { return Ok(0) };
        notes.write()?;
        Ok(notes.bytes())
    }

    /// What was noted up to there is on the disk.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) fn synced(&mut self, so_far: u64) -> Result<()> {
        let Some(notes) = &mut self.notes else { return Ok(()) };
        add(notes, &Line::Synced(so_far))?;
        notes.sync()
    }

    /// Removes them: all is unpacked.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn forget(host: &Host, directory: &Path) -> Result<()> {
        host.remove_file(&place(directory))
    }
}

fn add(notes: &mut Notes, line: &Line) -> Result<()> {
    // These have nothing that JSON cannot hold.
    notes.add(&serde_json::to_string(line).unwrap_or_default())
}

/// What an earlier run has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    synced: HashMap<String, Known>,
    unsynced: HashMap<String, Known>,
}

impl Left {
    fn read(text: &[u8], backup: &str, now: Option<&str>) -> Option<Left> {
        let mut lines = Vec::new();
        let (mut at, mut synced, mut boot, mut about) = (0, 0, None, None);
        for bytes in text.split_inclusive(|byte| *byte == b'\n') {
            // The last line may be half written.
            let Ok(line) = serde_json::from_slice(bytes) else { break };
            match line {
                Line::Backup(of) => about = Some(of),
                Line::Boot(of) => boot = of,
                Line::File(name, known) => lines.push((at, boot.clone(), name, known)),
                Line::Synced(before) => synced = synced.max(before),
            }
            at += bytes.len() as u64;
        }
        if about.as_deref() != Some(backup) {
            return None;
        }
        let mut left = Left::default();
        for (at, boot, name, known) in lines {
            if at < synced {
                left.synced.insert(name, known);
            } else if boot.is_some() && boot.as_deref() == now {
                left.unsynced.insert(name, known);
            }
        }
        Some(left)
    }

    /// How many files are complete.
    #[cfg(test)]
    fn files(&self) -> usize {
        self.synced.len() + self.unsynced.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::host::current_account;
    use proptest::prelude::*;

    fn known(bytes: u64) -> Known {
        Known { inode: 7, bytes, changed: 1 }
    }

    fn text(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(|line| format!("{}\n", serde_json::to_string(line).unwrap()).into_bytes()).collect()
    }

    #[test]
    fn what_was_not_synced_is_believed_only_while_the_machine_runs_on() {
        let host = Host::new(false).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(OWN_DIRECTORY)).unwrap();
        let begin = |left| Done::begin(&host, directory.path(), "b", left, &current_account()).unwrap();
        let left = || Done::left(&host, directory.path(), "b").unwrap();
        assert_eq!(Done::left(&host, directory.path(), "b"), None);
        let mut done = begin(Left::default());
        done.add(Path::new("one"), known(1)).unwrap();
        let so_far = done.so_far().unwrap();
        done.add(Path::new("two"), known(2 << 20)).unwrap();
        done.synced(so_far).unwrap();
        done.add(Path::new("three"), known(3 << 20)).unwrap();
        assert_eq!(left().files(), 3);
        assert_eq!(Done::left(&host, directory.path(), "another"), None);
        let bytes = std::fs::read(place(directory.path())).unwrap();
        for now in [None, Some("another start")] {
            let believed = Left::read(&bytes, "b", now).unwrap();
            assert_eq!(believed.synced, HashMap::from([("one".to_owned(), known(1))]), "{now:?}");
            assert_eq!(believed.unsynced, HashMap::new(), "{now:?}");
        }
        // What was not believed is not believed later either, when more was synced.
        let mut done = begin(Left::read(&bytes, "b", None).unwrap());
        let so_far = done.so_far().unwrap();
        done.synced(so_far).unwrap();
        assert_eq!(
            (left().files(), done.known(Path::new("one")), done.known(Path::new("two"))),
            (1, Some(known(1)), None)
        );
        Done::forget(&host, directory.path()).unwrap();
        assert_eq!(Done::left(&host, directory.path(), "b"), None);
    }

    proptest! {
        #[test]
        fn notes_that_are_cut_off_anywhere_never_say_more(cut: prop::sample::Index, end in 0u64..200) {
            let lines = [
                Line::Backup("b".to_owned()),
                Line::Boot(Some("now".to_owned())),
                Line::File("a".to_owned(), known(1)),
                Line::File("b".to_owned(), known(2)),
                Line::Synced(end),
                Line::File("c".to_owned(), known(3)),
            ];
            let whole = text(&lines);
            let all = Left::read(&whole, "b", Some("now")).unwrap();
            prop_assert_eq!(all.files(), 3);
            let cut = &whole[..cut.index(whole.len())];
            if let Some(left) = Left::read(cut, "b", Some("now")) {
                let believed = |name: &String| all.synced.contains_key(name) || all.unsynced.contains_key(name);
                prop_assert!(left.synced.keys().chain(left.unsynced.keys()).all(believed));
            }
            let after = Left::read(cut, "b", Some("later"));
            prop_assert!(after.is_none_or(|left| left.synced.keys().all(|name| all.synced.contains_key(name))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Left::read(&bytes, "b", None);
        }
    }
}
