//! The copy of the unpacked data directory that can be kept from before its first start, to go back to without unpacking.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::settings::shell_quote;
use super::{Finding, Plan};
use crate::core::progress::Bytes;

/// How the copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pristine {
    /// Its files share their blocks with the data directory's (`FICLONE`): at once, and without taking space, on file
    /// systems that can do that.
    Reflink,
    /// It is written a second time, and takes the space a second time.
    Copy,
}

/// What preflight wants to know about the place where the copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PristineFacts {
    /// Files can probably share their blocks there.
    Shares,
    /// They cannot: of this kind the file system is.
    SharesNothing(String),
    /// Something has its name already.
    Taken,
    /// It would lie on another file system than the data.
    Elsewhere,
}

impl Pristine {
    /// Bytes that it takes besides those of the data, at most, where replay changes as much as it reads.
    #[must_use]
    pub fn takes(self, data_bytes: u64, wal_bytes: u64) -> u64 {
        match self {
            Pristine::Reflink => data_bytes.min(wal_bytes),
            Pristine::Copy => data_bytes,
        }
    }

    /// What speaks against it, or is to be known of it. `takes`: bytes.
    #[must_use]
    pub fn finding(self, facts: &PristineFacts, directory: &str, takes: u64) -> Option<Finding> {
        let copy =
            format!("--keep-pristine=copy takes {}; or leave it out, and going back unpacks again", Bytes(takes));
        match (facts, self) {
            (PristineFacts::Taken, _) => Some(
                Finding::error("pristine-taken", format!("where the kept copy goes, there is something: {directory}"))
                    .hint("give another directory with --into, or leave --keep-pristine out"),
            ),
            (PristineFacts::Elsewhere, Pristine::Reflink) => Some(
                Finding::error(
                    "no-reflinks",
                    format!("the kept copy would lie on another file system than the data: {directory}"),
                )
                .hint(format!("give a directory inside that file system with --into; {copy}")),
            ),
            (PristineFacts::SharesNothing(kind), Pristine::Reflink) => Some(
                Finding::error("no-reflinks", format!("files cannot share their blocks there ({kind}): {directory}"))
                    .hint(copy),
            ),
            (PristineFacts::Shares | PristineFacts::SharesNothing(_) | PristineFacts::Elsewhere, _) => None,
        }
    }
}

impl Plan {
    /// Where the copy is kept: beside the data directory, so that it is on the same file system and no part of the data.
    #[must_use]
    pub fn pristine_directory(&self) -> PathBuf {
        let mut name = self.directory.file_name().unwrap_or_default().to_owned();
        name.push(".pristine");
        self.directory.with_file_name(name)
    }

    /// What an operator would type to make the copy.
    #[must_use]
    pub fn pristine_command(kind: Pristine, from: &str, to: &str) -> String {
        let reflink = if kind == Pristine::Reflink { "always" } else { "auto" };
        format!("cp -a --reflink={reflink} {} {}", shell_quote(from), shell_quote(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    #[test]
    fn it_lies_beside_the_data() {
        assert_eq!(example().pristine_directory(), PathBuf::from("/srv/restore.pristine"));
    }

    #[test]
    fn a_copy_is_said_to_cost_what_it_costs() {
        assert_eq!(Pristine::Reflink.takes(100, 30), 30);
        assert_eq!(Pristine::Copy.takes(100, 30), 100);
        let code = |kind: Pristine, facts: &PristineFacts| Some(kind.finding(facts, "/p", 5 << 30)?.code.into_owned());
        let none = PristineFacts::SharesNothing("ext4".to_owned());
        assert_eq!(code(Pristine::Reflink, &none).as_deref(), Some("no-reflinks"));
        assert_eq!(code(Pristine::Copy, &none), None);
        assert_eq!(code(Pristine::Reflink, &PristineFacts::Shares), None);
        assert_eq!(code(Pristine::Copy, &PristineFacts::Taken).as_deref(), Some("pristine-taken"));
        let hint = Pristine::Reflink.finding(&none, "/p", 5 << 30).and_then(|finding| finding.hint).unwrap_or_default();
        assert!(hint.contains("--keep-pristine=copy takes 5 GB"), "{hint}");
    }
}
