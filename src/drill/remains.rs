//! What drills have left that were killed: removed before the next one begins, and reported.

use super::run::{Drill, Heard, judge, summarize};
use super::store::{Draft, Known};
use crate::error::Result;
use crate::event::DrillReport;
use crate::event::drill::DrillResult;

impl Drill<'_> {
    /// Clears up behind every drill that was killed. Gives what is to be known of it, in words.
    ///
    /// # Errors
    /// When it cannot be found out which there are.
    pub(super) fn clear_up(&self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for known in self.drills.all()? {
            let Known::Killed(draft) = known else { continue };
            let id = draft.report.id.clone();
            let said = match self.clear_up_behind(*draft) {
                Ok(report) if report.removed => format!("the drill {id} was killed; what it had made was removed"),
                Ok(report) if report.kept => {
                    format!("the drill {id} was killed; what it had made is kept, as was wanted")
                }
                Ok(_) => format!("the drill {id} was killed; not everything that it had made could be removed"),
                Err(error) => {
                    format!("the drill {id} was killed, and cannot be cleared up: {}", error.report().message)
                }
            };
            (self.listen)(&id, Heard::Note(&said));
            told.push(said);
        }
        Ok(told)
    }

    fn clear_up_behind(&self, draft: Draft) -> Result<DrillReport> {
        let Draft { judged, mut report } = draft;
        // Nobody else takes it on meanwhile.
        let _journal = self.drills.begin(&self.host, &report.id)?;
        if self.drills.chain()?.iter().any(|link| link.id == report.id) {
            // Somebody just has.
            return self.drills.report(&report.id);
        }
        let recovery = self.engine.recoveries().load(&report.id).ok();
        if !judged {
            if let Some(buffer) = &recovery {
                super::measure::take_phases(&mut report, &buffer.phases);
            }
            report.result = DrillResult::Interrupted;
            report.failures = vec!["its walback was killed, or the machine went down".to_owned()];
        }
        report.ended_at = crate::engine::host::now();
        if report.kept && judged {
            report.notes.push("walback was killed after everything was checked".to_owned());
        } else {
            report.kept = false;
            self.remove(&mut report);
            report.notes.push("it was killed; the next drill has cleared up behind it".to_owned());
        }
        if judged {
            judge(&mut report);
        }
        summarize(&mut report);
        self.drills.seal(&self.host, report, self.config.zone).map(|sealed| sealed.report)
    }
}
