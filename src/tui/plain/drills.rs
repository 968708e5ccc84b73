//! How the drill goes that this program makes, line by line.

use crate::app::State;
use crate::app::drills::Running;
use crate::event::{DrillCheck, DrillResult};

/// What was told of it.
#[derive(Debug, Default)]
pub(super) struct Drilled {
    goes_on: bool,
    doing: String,
    checks: usize,
    note: Option<String>,
}

impl Drilled {
    /// What is new, and the status where it is over and has not passed.
    pub(super) fn look(&mut self, state: &State) -> (Vec<String>, Option<u8>) {
        let Some(running) = &state.drills.running else {
            let was_going_on = std::mem::take(self).goes_on;
            let result = state.drills.last.filter(|_| was_going_on);
            let status = result.map(DrillResult::exit_status).filter(|status| *status != 0);
            return (Vec::new(), status);
        };
        self.goes_on = true;
        (self.news(running), None)
    }

    fn news(&mut self, running: &Running) -> Vec<String> {
        let name = running.id.as_deref().unwrap_or("drill");
        let mut lines = Vec::new();
        if self.note != running.note {
            self.note.clone_from(&running.note);
            lines.extend(running.note.clone());
        }
        lines.extend(running.checks.iter().skip(self.checks).map(DrillCheck::outcome));
        self.checks = running.checks.len();
        let doing = running.in_words();
        if self.doing != doing {
            lines.push(format!("{name}: {doing}"));
            self.doing = doing;
        }
        lines
    }
}
