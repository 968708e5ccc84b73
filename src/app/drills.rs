//! The Drills screen: what a drill is, and how to do one by hand. Walback keeps no drills yet.

use super::query::Checks;
use super::state::State;
use crate::plan::settings::shell_quote;

/// A step of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillStep {
    /// What it is for.
    pub what: &'static str,
    /// The command.
    pub command: String,
    /// What to note of it.
    pub note: &'static str,
}

/// The drill of this source, command by command.
#[must_use]
pub fn steps(state: &State) -> Vec<DrillStep> {
    // The same source, however it was named.
    let program = state.invocation.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ");
    let directory = shell_quote(&directory(state));
    let asks = match state.checks {
        Checks::None => DrillStep {
            what: "Ask the recovered server something whose answer you know",
            command: format!("{program} sql 'SELECT …' {directory} --database NAME"),
            note: "No checks are configured for this source. With “checks” in the configuration, “walback checks” asks \
                   the same questions every time.",
        },
        _ => DrillStep {
            what: "Ask the recovered server the configured checks",
            command: format!("{program} checks {directory}"),
            note: "Status 3 where one of them fails.",
        },
    };
    vec![
        DrillStep {
            what: "Read the whole archive",
            command: format!("{program} check"),
            note: "Status 3 where something is missing or damaged.",
        },
        DrillStep {
            what: "Restore the newest base backup to the end of WAL, beside everything else",
            command: format!("time {program} restore --latest --into {directory}"),
            note: "How long it takes is your recovery time (RTO). The last transaction that it has, against the time now, is \
                   what you would lose (RPO).",
        },
        asks,
        DrillStep {
            what: "Remove what the drill made",
            command: format!("{program} discard {directory}"),
            note: "Only what Walback made is removed, after you type its name.",
        },
    ]
}

/// Where a drill goes unless the operator says otherwise.
fn directory(state: &State) -> String {
    // Not where a recovery of an accident would go.
    if state.directory.is_empty() { "/srv/restore/drill".to_owned() } else { format!("{}-drill", state.directory) }
}
