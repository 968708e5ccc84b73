//! What drills have left that were killed: removed before the next one begins, and reported.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use super::run::{Drill, Heard};
use super::store::Draft;
use super::verdict::{judge, summarize};
use crate::engine::mark::named_by;
use crate::error::Result;
use crate::event::drill::DrillResult;
use crate::event::{DrillReport, Event, RecoveryState, What};

impl Drill<'_> {
    /// Clears up behind every drill that was killed. Gives what is to be known of it, in words.
    ///
    /// # Errors
    /// When it cannot be found out which there are.
    pub(super) fn clear_up(&self) -> Result<Vec<String>> {
        let killed = self.drills.killed()?.into_iter();
        // Reports that only lack their lines fit in their order.
        let mut killed: Vec<_> =
            killed.map(|draft| (self.drills.number_of(&draft.report.id).unwrap_or(u64::MAX), draft)).collect();
        killed.sort_by_key(|(number, draft)| (*number, draft.report.begun_at));
        let mut told = Vec::new();
        for (_, draft) in killed {
            let id = draft.report.id.clone();
            let said = match self.clear_up_behind(draft) {
                Ok(came) => format!("the drill {id} {came}"),
                Err(error) => format!("the drill {id} cannot be cleared up: {}", error.report().message),
            };
            (self.listen)(&id, Heard::Note(&said));
            told.push(said);
        }
        Ok(told)
    }

    /// What lies in the scratch directory of drills that are kept in another state directory, in words: another user's are
    /// never touched, and nobody else would tell of them.
    pub(super) fn strangers(&self, scratch: &Path) -> Vec<String> {
        let entries = fs::read_dir(scratch).into_iter().flatten().flatten();
        let mut marked: Vec<_> = entries.filter_map(|entry| Some((named_by(&entry.path())?, entry.path()))).collect();
        marked.sort();
        let others = marked.into_iter().filter(|(id, path)| {
            // The directories of tablespaces carry the same mark.
            id.starts_with("drill-") && path.ends_with(id) && !self.drills.has(id)
        });
        let told = |(id, path): (String, PathBuf)| {
            format!("there is a copy of {id}, a drill that this state directory does not know: {}", path.display())
        };
        others.map(told).collect()
    }

    /// Removes what the drill has made, and says in the report how far that came. Where somebody else has taken that over, it
    /// stays. `promotes`: it may be the drill that has promoted it.
    pub(super) fn remove(&self, report: &mut DrillReport, promotes: bool) {
        (self.listen)(&report.id, Heard::Doing("removing what was restored"));
        if !self.engine.recoveries().has(&report.id) {
            report.removed = true;
            return;
        }
        let events = self.engine.recoveries().events(&report.id).unwrap_or_default();
        if let Some(done) = taken_over(&events, promotes) {
            report.kept = true;
            report.notes.push(format!("somebody has {done} what it had made: that is kept, and theirs to discard"));
            return;
        }
        self.host.end_left_behind(&script_marks(&report.id, &report.directory));
        let gone = RefCell::new(None);
        let watch = |event: &Event| {
            if let What::Finding(finding) = &event.what
                && finding.code == "directory-gone"
            {
                gone.replace(Some(finding.message.clone()));
            }
            (self.listen)(&event.recovery, Heard::Event(event));
        };
        match self.engine.tear_down(&report.id, &watch) {
            Ok(_) => match gone.take() {
                None => report.removed = true,
                Some(gone) => {
                    report.notes.push(format!("{gone}; if its file system is not mounted, its data is still there"))
                }
            },
            Err(error) => {
                let why = &error.report().message;
                report.failures.push(format!("what was restored could not be removed: {why}"));
            }
        }
    }

    /// What came of it, in words.
    fn clear_up_behind(&self, draft: Draft) -> Result<&'static str> {
        let Draft { judged, promotes, mut report } = draft;
        // Nobody else takes it on meanwhile.
        let _journal = self.drills.begin(&self.host, &report.id)?;
        if self.drills.chain()?.iter().any(|link| link.id == report.id) {
            return Ok("was killed; somebody has just cleared up behind it");
        }
        if self.drills.link_again(&self.host, &report.id)?.is_some() {
            return Ok("had its report, and no line in the chain; it has one now");
        }
        let recovery = self.engine.recoveries().load(&report.id).ok();
        if !judged {
            if let Some(buffer) = &recovery {
                super::measure::take_phases(&mut report, &buffer.phases);
            }
            super::measure::forget_unproved_rpo(&mut report);
            report.result = DrillResult::Interrupted;
            report.failures = vec!["its walback was killed, or the machine went down".to_owned()];
        }
        report.ended_at = crate::engine::host::now();
        if report.kept && judged {
            report.notes.push("walback was killed after everything was checked".to_owned());
        } else {
            report.kept = false;
            self.remove(&mut report, promotes);
            report.notes.push("it was killed; the next drill has cleared up behind it".to_owned());
        }
        if judged {
            judge(&mut report);
        }
        summarize(&mut report);
        let report = self.drills.seal(&self.host, report, self.config.zone)?.report;
        Ok(match (report.removed, report.kept) {
            (true, _) => "was killed; what it had made was removed",
            (false, true) => "was killed; what it had made is kept",
            (false, false) => "was killed; not everything that it had made could be removed",
        })
    }
}

/// What nobody but the script of a drill, and what that starts, has in its environment.
pub(super) fn script_marks(id: &str, directory: &Path) -> [(&'static str, String); 2] {
    [("WALBACK_DRILL", id.to_owned()), ("WALBACK_DIRECTORY", directory.display().to_string())]
}

/// What somebody has done with the recovery of a drill that drills do not do, as far as its journal tells: it may be in use.
/// `promotes`: it may be the drill that has promoted it.
pub(super) fn taken_over(events: &[Event], promotes: bool) -> Option<&'static str> {
    let mut plans = 0;
    events.iter().find_map(|event| match event.what {
        What::Planned { .. } => {
            plans += 1;
            (plans > 1).then_some("retargeted")
        }
        What::Promoted { .. } | What::State { state: RecoveryState::Promoting } => (!promotes).then_some("promoted"),
        What::Resumed { .. } => Some("resumed"),
        What::Item { .. } => Some("gone on with"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{TimelineId, Timestamp};
    use crate::plan::example;

    #[test]
    fn what_somebody_works_with_is_told_from_what_a_drill_has_left() {
        let planned = || What::Planned { plan: Box::new(example()), hash: String::new(), strategy: None };
        let promoted = || What::Promoted { timeline: TimelineId(2) };
        let told = |more: Vec<What>, promotes: bool| {
            let all = [planned(), What::State { state: RecoveryState::Paused }].into_iter().chain(more);
            let event = |what| Event { at: Timestamp::UNIX_EPOCH, recovery: "drill".to_owned(), what };
            taken_over(&all.map(event).collect::<Vec<_>>(), promotes)
        };
        assert_eq!((told(vec![], false), told(vec![promoted()], true)), (None, None));
        assert_eq!(told(vec![promoted()], false), Some("promoted"));
        assert_eq!(told(vec![What::State { state: RecoveryState::Promoting }], false), Some("promoted"));
        assert_eq!(told(vec![What::Resumed { found: String::new() }], false), Some("resumed"));
        assert_eq!(told(vec![planned()], true), Some("retargeted"));
    }
}
