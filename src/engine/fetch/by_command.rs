//! A file by one of the operator's commands, which the server's user runs in the data directory as the server would.

use crate::core::{ArchiveFile, FetchCommand};
use crate::source::Cancel;
use crate::source::command::run::{Call, Came};
use crate::source::copies::{Copy, in_archive};

use super::super::host::spool::{Spool, Workplace};
use super::Context;

/// What a command gave; it is gone when this is.
pub(super) struct Given {
    /// The file, as if it was one of an archive's. None where it is not a plain file.
    pub(super) copies: Vec<Copy>,
    _work: Workplace,
}

/// What a command said.
pub(super) enum Said {
    /// It gave a file.
    Given(Given),
    /// It is not there; in words.
    Missing(String),
}

/// The version of whatever a command gives: it is known before it is fetched, and segments do not change.
pub(super) fn version_of(command: &FetchCommand) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(&command.command);
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("command-{hash}")
}

impl Context {
    /// Asks a command for a file; for a segment that is there as `.partial` only, for that too.
    ///
    /// # Errors
    /// In words, where the command could not do its work, or there is no place for it.
    pub(super) fn by_command(&self, command: &FetchCommand, file: ArchiveFile) -> Result<Said, String> {
        let partial = file.whole_segment().filter(|name| self.instructions.partials.contains(name));
        match self.ask(command, file, file)? {
            Said::Missing(words) => match partial {
                Some(name) => self.ask(command, ArchiveFile::Partial(name), file),
                None => Ok(Said::Missing(words)),
            },
            given @ Said::Given(_) => Ok(given),
        }
    }

    /// Asks for `wanted`, which is as good as `file`.
    fn ask(&self, command: &FetchCommand, wanted: ArchiveFile, file: ArchiveFile) -> Result<Said, String> {
        let no_place = |error: &dyn std::fmt::Display| format!("there is no place to fetch {file} to: {error}");
        let spool = Spool::make(&self.spool_path()).ok_or_else(|| no_place(&self.spool_path().display()))?;
        let work = spool.workplace().map_err(|error| no_place(&error))?;
        let to = work.told();
        let call = Call { command, file: wanted, directory: &self.directory, to: &to, own_group: false };
        match call.run(&Cancel::default()) {
            Ok(Came::Missing(missing)) => Ok(Said::Missing(format!("{}: {}", command.shown(), missing.words))),
            Ok(Came::File) => {
                work.take(&file.to_string()).map_err(|error| no_place(&error))?;
                let copies = in_archive(work.path(), file, false).map_err(|error| no_place(&error))?;
                Ok(Said::Given(Given { copies, _work: work }))
            }
            Err(error) => Err(error.in_words()),
        }
    }
}
