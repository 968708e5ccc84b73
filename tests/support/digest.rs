//! What a directory tree holds, to prove that it is what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::run;

/// A line about everything in a tree, by its path inside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest(BTreeMap<String, String>);

impl TreeDigest {
    /// How many files and directories it tells of, the tree itself among them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same without the line about the tree's own directory, whose time changes with every name made or removed in
    /// it.
    pub fn within(mut self) -> TreeDigest {
        self.0.pop_first();
        self
    }

    /// What differs from an earlier one, a line each: `-` as it was, `+` as it is.
    pub fn differences(&self, earlier: &TreeDigest) -> Vec<String> {
        let gone = earlier.0.iter().filter(|(path, _)| self.0.get(*path) != earlier.0.get(*path));
        let come = self.0.iter().filter(|(path, _)| self.0.get(*path) != earlier.0.get(*path));
        let gone = gone.map(|(path, what)| format!("- {path}: {what}"));
        gone.chain(come.map(|(path, what)| format!("+ {path}: {what}"))).collect()
    }

    /// Panics where the tree is not what it was in every byte, name, mode, owner and time of change.
    #[track_caller]
    pub fn assert_same_as(&self, earlier: &TreeDigest) {
        let differences = self.differences(earlier);
        assert!(differences.is_empty(), "the tree has changed:\n{}", differences.join("\n"));
    }
}

/// What is in the tree at `path` now: types, modes, owners, sizes, times of change and contents.
#[track_caller]
pub fn tree_digest(path: &Path) -> TreeDigest {
    let mut digest = BTreeMap::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        line += &format!(" {} bytes {}.{:09}", metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if metadata.is_symlink() {
            line += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        digest.insert(path.to_string_lossy().into_owned(), line);
    }
    // By a program, because hashing in a program built for debugging takes minutes for a gigabyte.
    let sums =
        run(Command::new("sh").args(["-c", "find \"$1\" -type f -print0 | xargs -0r sha256sum -z", "-"]).arg(path));
    for sum in sums.split_terminator('\0') {
        let (sum, path) = sum.split_once("  ").unwrap();
        digest.get_mut(path).unwrap().push_str(&format!(" {sum}"));
    }
    // By its path inside of the tree, so that a tree that is renamed is still the same.
    let inside = |whole: String| whole.strip_prefix(&*path.to_string_lossy()).map(str::to_owned).unwrap_or(whole);
    TreeDigest(digest.into_iter().map(|(whole, line)| (inside(whole), line)).collect())
}
