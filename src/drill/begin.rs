//! How a drill begins: whether it can, where it goes, what is known of it before anything was done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::aim::{self, Which};
use super::limit::{Limit, Room};
use super::run::{Asked, Drill};
use crate::engine::facts::source_of;
use crate::engine::host::lock::host_name;
use crate::engine::host::{current_account, now};
use crate::error::{Error, Result};
use crate::event::DrillReport;
use crate::event::drill::{By, DrillResult, Drilled, FORMAT};
use crate::plan::build::name_recovery;
use crate::plan::tablespaces;
use crate::source::{Cancel, LocalSource, Source};

impl Drill<'_> {
    /// How much time and room it may take.
    pub(super) fn limit(&self, directory: &Path, cancel: &Cancel) -> Limit {
        let directories = vec![directory.to_path_buf(), tablespaces::beside(directory)];
        let room = self.source.drill.max_bytes.map(|most| Room { directories, most });
        Limit::with_room(cancel, self.source.drill.timeout, room)
    }

    pub(super) fn scratch(&self, asked: &Asked) -> Result<PathBuf> {
        let scratch = asked.scratch.clone().or_else(|| self.source.drill.scratch.clone()).ok_or_else(|| {
            Error::usage("no-scratch", "it is not said below which directory the drill shall restore")
                .hint("give it with --scratch DIR, or as “drill: {scratch: DIR}” of the source in the configuration")
        })?;
        let scratch = std::path::absolute(&scratch).map_err(|error| {
            Error::usage("bad-path", format!("this is no path: {}", scratch.display())).caused_by(&error)
        })?;
        // Those of another cluster are somebody's backups as well.
        let sources: Vec<PathBuf> =
            self.config.sources.values().flat_map(|source| source.backups.iter().chain(&source.wal)).cloned().collect();
        match source_of(&scratch, &sources) {
            None => Ok(scratch),
            Some(source) => {
                let message = format!("{} lies inside a source: {}", scratch.display(), source.display());
                Err(Error::usage("inside-source", message)
                    .hint("sources are only ever read: choose another place with --scratch, or in the configuration"))
            }
        }
    }

    /// A directory that is not there, whose name no drill and no recovery has.
    pub(super) fn new_directory(&self, scratch: &Path) -> PathBuf {
        let time = now().for_server();
        let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
        let source = if self.source.name == crate::config::FROM_COMMAND_LINE { "" } else { self.source.name.as_str() };
        // So long that the whole fits into a name.
        let source: String = source.chars().take(15).collect();
        // Somebody who keeps drills elsewhere may begin one of the same name in the same place in the same second.
        let wanted = format!("drill {source} {digits} {:03x}", aim::below(0x1000));
        let is_taken = |name: &str| {
            let path = scratch.join(name);
            self.drills.has(name) || self.engine.recoveries().has(name) || path.symlink_metadata().is_ok()
        };
        scratch.join(name_recovery(Path::new(&wanted), &is_taken))
    }

    /// The report of a drill that has done nothing yet.
    pub(super) fn blank(&self, directory: &Path, notes: Vec<String>, keep: bool) -> DrillReport {
        let drill = &self.source.drill;
        let at = now();
        DrillReport {
            format: FORMAT,
            id: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            number: 0,
            previous: None,
            result: DrillResult::Interrupted,
            summary: String::new(),
            failures: Vec::new(),
            notes,
            begun_at: at,
            ended_at: at,
            by: By { user: user(), host: host_name(), walback: env!("CARGO_PKG_VERSION").to_owned(), postgresql: None },
            source: Drilled {
                name: self.source.name.clone(),
                backups: self.source.backups.clone(),
                wal: self.source.wal.clone(),
                system_identifier: None,
            },
            chosen: String::new(),
            backup: None,
            target: None,
            directory: directory.to_path_buf(),
            predicted: None,
            actual: None,
            matches_prediction: None,
            phases: Vec::new(),
            rto_s: None,
            rto_limit_s: drill.rto.map(|limit| limit.as_secs_f64()),
            rpo_s: None,
            rpo_limit_s: drill.rpo.map(|limit| limit.as_secs_f64()),
            rpo_against: None,
            recoverable_at: None,
            newest_known_at: None,
            primary_at: None,
            wal_bytes: None,
            wal_bytes_per_hour: None,
            forecast: None,
            checks: Vec::new(),
            skipped: Vec::new(),
            findings: Vec::new(),
            failure: None,
            kept: keep || drill.keep,
            removed: false,
            documents: BTreeMap::new(),
        }
    }

    /// A name that is mistyped is no drill that failed.
    pub(super) fn check_named(&self, which: &Which, cancel: &Cancel) -> Result<()> {
        let Which::Named(id) = which else { return Ok(()) };
        let source = LocalSource::new(self.source).remembering(self.config.cache_directory.as_deref());
        aim::named(&source.list(cancel)?, id).map(drop)
    }

    /// What is not there is not to be found out after hours.
    pub(super) fn check_script(&self) -> Result<()> {
        let Some(script) = self.source.drill.script.as_ref().filter(|script| !script.is_file()) else { return Ok(()) };
        Err(Error::failed("drill-script", format!("the script of the drill is not there: {}", script.display()))
            .hint("mend “drill: {script: …}” of the source in the configuration"))
    }
}

/// Who runs this program; behind sudo also who did that.
fn user() -> String {
    let name = current_account().name;
    match std::env::var("SUDO_USER") {
        Ok(real) if !real.is_empty() && real != name => format!("{name}, for {real}"),
        _ => name,
    }
}
