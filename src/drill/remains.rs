//! What drills have left that were killed: removed before the next one begins, and reported.

use super::run::{Drill, Heard, judge, summarize};
use super::store::{Draft, Known};
use crate::error::Result;
use crate::event::drill::DrillResult;

impl Drill<'_> {
    /// Clears up behind every drill that was killed. Gives what is to be known of it, in words.
    ///
    /// # Errors
    /// When it cannot be found out which there are.
    pub(super) fn clear_up(&self) -> Result<Vec<String>> {
        let known = self.drills.all()?.into_iter();
        let killed = known.filter_map(|known| if let Known::Killed(draft) = known { Some(draft) } else { None });
        // Reports that only lack their lines fit in their order.
        let mut killed: Vec<_> =
            killed.map(|draft| (self.drills.number_of(&draft.report.id).unwrap_or(u64::MAX), draft)).collect();
        killed.sort_by_key(|(number, draft)| (*number, draft.report.begun_at));
        let mut told = Vec::new();
        for (_, draft) in killed {
            let id = draft.report.id.clone();
            let said = match self.clear_up_behind(*draft) {
                Ok(came) => format!("the drill {id} {came}"),
                Err(error) => format!("the drill {id} cannot be cleared up: {}", error.report().message),
            };
            (self.listen)(&id, Heard::Note(&said));
            told.push(said);
        }
        Ok(told)
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
