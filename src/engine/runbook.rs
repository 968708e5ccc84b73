//! The runbook as files: a shell script, and the same as Markdown beside it.

use std::path::{Path, PathBuf};

use super::facts::source_of;
use super::host::Host;
use crate::core::Zone;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, script};

/// The files of a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    /// The shell script.
    pub script: PathBuf,
    /// The same, to be read.
    pub document: PathBuf,
}

impl Runbook {
    /// Those that belong to what an operator calls the script: beside `restore.sh` lies `restore.md`.
    #[must_use]
    pub fn at(file: &Path) -> Runbook {
        let script = absolute(file);
        let document = match script.extension() {
            Some(extension) if extension == "sh" => script.with_extension("md"),
            _ => script.with_file_name(format!("{}.md", script.file_name().unwrap_or_default().to_string_lossy())),
        };
        Runbook { script, document }
    }

    /// Writes both, for a plan that can work; over what is there only with `replace`.
    ///
    /// # Errors
    /// Where a file is there (`file-exists`), lies inside of a source or cannot be written, and where a path of the plan
    /// cannot stand in a text.
    pub fn write(&self, host: &Host, plan: &Plan, zone: Zone, replace: bool) -> Result<()> {
        // A path that is not UTF-8 cannot stand in a text.
        plan.hash()?;
        let mut plan = plan.clone();
        plan.server.bin_dir = absolute(&plan.server.bin_dir);
        plan.wal.iter_mut().for_each(|archive| *archive = absolute(archive));
        let links = plan.chain.iter_mut().flat_map(|chain| &mut chain.links);
        let backups = std::iter::once(&mut plan.backup).chain(links.map(|link| &mut link.backup));
        backups.flat_map(|backup| &mut backup.parts).for_each(|part| part.path = absolute(&part.path));
        let backups = plan.backups_read().map(|backup| &backup.location);
        let sources: Vec<PathBuf> = plan.wal.iter().chain(backups).cloned().collect();
        if let Some(source) = source_of(&self.script, &sources) {
            let message = format!("{} lies inside a source: {}", self.script.display(), source.display());
            return Err(Error::usage("inside-source", message).hint("sources are only ever read: choose another place"));
        }
        for path in [&self.script, &self.document] {
            if !replace && path.symlink_metadata().is_ok() {
                let message = format!("this file is there already: {}", path.display());
                return Err(Error::new(ErrorKind::Unconfirmed, "file-exists", message)
                    .hint("give another name, or --yes to write it anew"));
            }
        }
        // A command of the operator's may have a password in it.
        let (for_script, for_document) = if plan.commands.is_empty() { (0o755, 0o644) } else { (0o700, 0o600) };
        host.write_document(&self.script, &script::shell(&plan, zone), for_script, replace)?;
        host.write_document(&self.document, &script::markdown(&plan, zone), for_document, replace)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
