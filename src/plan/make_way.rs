//! The data directory that lies where a recovery shall go, and makes way where that is asked for: it is renamed, never
//! removed. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::shell_quote;
use super::{Finding, Plan};
use crate::core::time::Timestamp;

/// What is added to its name, before the moment.
const FORMER: &str = ".before-walback-";

/// What tells one directory from every other, wherever it is renamed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The number of its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system tells: inodes are used again.
    pub born: Option<u64>,
}

impl Identity {
    /// Whether it is the same directory. Devices are numbered anew when the machine restarts; the moment at which a
    /// directory was made stays.
    #[must_use]
    pub fn is_of(&self, other: &Identity) -> bool {
        let same = match (self.born, other.born) {
            (Some(then), Some(now)) => then == now,
            _ => self.device == other.device,
        };
        self.inode == other.inode && same
    }
}

/// A data directory that makes way, and what it gets for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeWay {
    /// Its new name, beside the old one; nothing has it.
    pub to: PathBuf,
    /// Which directory it is: no other one is renamed.
    pub identity: Identity,
}

/// What lies where a recovery shall go, and looks like a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// It can make way.
    Stopped(Stopped),
    /// It cannot; why, in words.
    Stays(String),
}

/// A data directory that can be renamed: no server runs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Which directory it is.
    pub identity: Identity,
    /// What it would be called.
    pub to: PathBuf,
    /// The recovery whose mark it carries.
    pub recovery: Option<String>,
    /// What belongs to it and lies elsewhere, where its links lead: tablespaces, and WAL.
    pub elsewhere: Vec<PathBuf>,
    /// What `pg_control` says of its state, where its server did not shut down in order.
    pub unclean: Option<String>,
}

/// What `directory` is called from then on: `/srv/shop.before-walback-20261121-204500`.
#[must_use]
pub fn former_name(directory: &Path, now: Timestamp, taken: &dyn Fn(&Path) -> bool) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(format!("{FORMER}{}", now.compact()));
    let first = directory.with_file_name(&name);
    if !taken(&first) {
        return first;
    }
    let mut counted = (2_u32..).map(|number| {
        let mut name = name.clone();
        name.push(format!("-{number}"));
        directory.with_file_name(name)
    });
    counted.find(|name| !taken(name)).unwrap_or(first)
}

impl Stopped {
    /// What has to be known before it is renamed.
    #[must_use]
    pub fn findings(&self, directory: &Path) -> Vec<Finding> {
        let (from, to) = (directory.display(), self.to.display());
        let back = back_command(directory, &self.to);
        let mut findings = vec![
            Finding::note("makes-way", format!("the data directory that is there is renamed: {from} becomes {to}"))
                .hint(format!("nothing of it is changed or removed; {back} brings it back, once {from} is gone")),
        ];
        if let Some(recovery) = &self.recovery {
            findings.push(
                Finding::warning("makes-way-recovery", format!("it is what the recovery {recovery} made"))
                    .hint(format!("{recovery} cannot be gone on with, unless it is brought back")),
            );
        }
        if !self.elsewhere.is_empty() {
            let places: Vec<String> = self.elsewhere.iter().map(|place| place.display().to_string()).collect();
            let message = format!("a part of it lies elsewhere, and stays where it is: {}", places.join(", "));
            findings.push(
                Finding::warning("makes-way-links", message)
                    .hint("do not remove it there: the renamed directory needs it, and its links still lead there"),
            );
        }
        if let Some(state) = &self.unclean {
            let message = format!("its server did not shut down in order: pg_control says “{state}”");
            findings.push(
                Finding::warning("makes-way-unclean", message).hint(
                    "make sure that it runs nowhere else: in a container, or on another machine with this storage",
                ),
            );
        }
        findings
    }
}

/// The option that asks for it.
const OPTION: &str = "--make-way";

/// Another way out of a directory that holds a stopped server's data.
#[must_use]
pub fn offered(finding: Finding) -> Finding {
    finding.hint(format!(
        "give a new directory with --into, or have this one renamed with {OPTION}: nothing of it is removed, and Walback \
         never restores over anything"
    ))
}

/// Why it stays.
#[must_use]
pub fn stays(directory: &Path, why: &str) -> Finding {
    Finding::error("cannot-make-way", format!("{} cannot make way: {why}", directory.display()))
        .hint("give a new directory with --into")
}

/// What an operator would type to rename it.
#[must_use]
pub fn command(directory: &Path, to: &Path) -> String {
    let quoted = |path: &Path| shell_quote(&path.display().to_string());
    format!("mv -nT {} {}", quoted(directory), quoted(to))
}

/// What an operator would type to bring it back.
#[must_use]
pub fn back_command(directory: &Path, to: &Path) -> String {
    command(to, directory)
}

impl Plan {
    /// Whether what stands in its way could be renamed.
    #[must_use]
    pub fn offers_to_make_way(&self) -> bool {
        self.findings.iter().any(|finding| finding.hint.as_ref().is_some_and(|hint| hint.contains(OPTION)))
            && self.make_way.is_none()
            && self.is_forbidden()
    }

    /// Where the data directory is that made way, and how it is brought back; for a recovery that is gone.
    #[must_use]
    pub fn former_in_words(&self) -> Option<(String, String)> {
        let former = self.make_way.as_ref()?;
        let said = format!("the data directory that was there is {}", former.to.display());
        Some((said, format!("{} brings it back", back_command(&self.directory, &former.to))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_new_name_says_when_and_is_nobodys() {
        let now = Timestamp::from_unix_seconds(1_795_207_500).unwrap();
        let name = |taken: &[&str]| {
            let taken = |path: &Path| taken.iter().any(|taken| path.ends_with(taken));
            former_name(Path::new("/srv/shop"), now, &taken).display().to_string()
        };
        let first = name(&[]);
        assert_eq!(first, "/srv/shop.before-walback-20261120-204500");
        let last = first.rsplit('/').next().unwrap();
        assert_eq!(name(&[last]), format!("{first}-2"));
        assert_eq!(name(&[last, &format!("{last}-2")]), format!("{first}-3"));
    }

    #[test]
    fn a_directory_is_known_again_after_a_restart_of_the_machine() {
        let one = Identity { device: 1, inode: 2, born: Some(3) };
        assert!(one.is_of(&Identity { device: 9, ..one }));
        assert!(!one.is_of(&Identity { inode: 9, ..one }) && !one.is_of(&Identity { born: Some(9), ..one }));
        let unknown = Identity { born: None, ..one };
        assert!(unknown.is_of(&unknown) && !unknown.is_of(&Identity { device: 9, ..unknown }));
    }

    #[test]
    fn everything_about_it_is_said() {
        let stopped = Stopped {
            identity: Identity { device: 1, inode: 2, born: None },
            to: PathBuf::from("/srv/it's"),
            recovery: Some("shop".to_owned()),
            elsewhere: vec![PathBuf::from("/fast/1")],
            unclean: Some("in production".to_owned()),
        };
        let findings = stopped.findings(Path::new("/srv/shop"));
        let codes: Vec<&str> = findings.iter().map(|finding| &*finding.code).collect();
        assert_eq!(codes, ["makes-way", "makes-way-recovery", "makes-way-links", "makes-way-unclean"]);
        let hint = findings[0].hint.clone().unwrap();
        assert!(hint.contains(r"mv -nT '/srv/it'\''s' '/srv/shop'") || hint.contains("mv -nT '/srv/it"), "{hint}");
        let nothing = Stopped { recovery: None, elsewhere: Vec::new(), unclean: None, ..stopped };
        assert_eq!(nothing.findings(Path::new("/srv/shop")).len(), 1);
    }
}
