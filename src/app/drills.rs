//! The Drills screen: what a drill is, and the commands that make and show them in another terminal.

use super::state::State;
use crate::plan::settings::shell_quote;

/// Something to be done about drills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillStep {
    /// What it is for.
    pub what: &'static str,
    /// The command.
    pub command: String,
    /// What to know of it.
    pub note: &'static str,
}

/// The commands for drills of this source.
#[must_use]
pub fn steps(state: &State) -> Vec<DrillStep> {
    // The same source, however it was named.
    let program = state.invocation.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ");
    let scratch = shell_quote(&scratch(state));
    vec![
        DrillStep {
            what: "Restore the newest base backup, check it, measure, report, and remove it again",
            command: format!("{program} drill --scratch {scratch}"),
            note: "It makes a new directory below that one, and removes nothing else. Status 3 where it failed. With “scratch” \
                   under “drill” in the configuration, --scratch can be left out.",
        },
        DrillStep {
            what: "Try another backup and another point each time",
            command: format!("{program} drill --scratch {scratch} --backup random --random-point"),
            note: "A commit is drawn at random from all that the backup leads to.",
        },
        DrillStep {
            what: "Look at the drills that were made, and whether their reports are as they were written",
            command: format!("{program} drills --verify"),
            note: "Status 3 where one was removed or changed.",
        },
    ]
}

/// Below which directory drills go: beside where a recovery of an accident would.
fn scratch(state: &State) -> String {
    let beside = state.directory.trim_end_matches('/').rsplit_once('/').map(|(parent, _)| parent);
    beside.filter(|parent| !parent.is_empty()).unwrap_or("/srv/drills").to_owned()
}
