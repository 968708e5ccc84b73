//! Watches a recovery: JSON lines, or lines and a bar for people.

use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds};
use crate::event::{Event, Progress, WaitsFor, What};
use crate::pgdata::server_log::Stopped;
use crate::plan::StepId;
use crate::plan::checklist::ItemState;

use super::table::plain;
use super::{note, print};

/// A bar is redrawn so often, at most.
const REDRAW: Duration = Duration::from_millis(100);

/// A line on standard error that is drawn over and over, on a terminal only.
#[derive(Debug)]
pub struct Bar {
    title: String,
    terminal: bool,
    drawn: Cell<Option<Instant>>,
    shown: Cell<bool>,
}

impl Bar {
    /// With a title.
    #[must_use]
    pub fn new(title: &str) -> Bar {
        let terminal = std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        Bar { title: title.to_owned(), terminal, drawn: Cell::new(None), shown: Cell::new(false) }
    }

    /// Shows how far it is.
    pub fn show(&self, done: u64, total: Option<u64>, rate: Option<f64>, eta_s: Option<f64>) {
        if !self.terminal || self.drawn.get().is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        self.shown.set(true);
        let line = line(&self.title, done, total, rate, eta_s);
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.shown.replace(false) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Columns that every terminal has: a line that is longer cannot be drawn over.
const COLUMNS: usize = 79;
/// The longest bar.
const LONGEST: usize = 24;

/// `backups    [####----]  13 %  2.0 GB of 16.0 GB  184 MB/s  1 min 18 s left`: the bar gives way to words.
fn line(title: &str, done: u64, total: Option<u64>, rate: Option<f64>, eta_s: Option<f64>) -> String {
    let mut words = String::new();
    if let Some(rate) = rate.filter(|rate| *rate >= 1.0) {
        words.push_str(&format!("  {}/s", Bytes(rate as u64)));
    }
    if let Some(eta) = eta_s {
        words.push_str(&format!("  {} left", Seconds(eta)));
    }
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{title:<10} {:>8}{words}", Bytes(done).to_string());
    };
    let share = (done as f64 / total as f64).clamp(0.0, 1.0);
    let words = format!(" {:>3.0} %  {} of {}{words}", share * 100.0, Bytes(done), Bytes(total));
    let room = COLUMNS.saturating_sub(title.len().max(10) + " []".len() + words.len()).min(LONGEST);
    let full = (share * room as f64) as usize;
    format!("{title:<10} [{}{}]{words}", "#".repeat(full), "-".repeat(room - full))
}

/// Tells events as they come.
pub struct Watcher {
    json: bool,
    zone: Zone,
    bar: RefCell<Bar>,
    /// What it was last said to wait for.
    waits_for: Cell<Option<WaitsFor>>,
}

impl Watcher {
    /// As JSON lines on standard output, or in words on standard error.
    #[must_use]
    pub fn new(json: bool, zone: Zone) -> Watcher {
        Watcher { json, zone, bar: RefCell::new(Bar::new("")), waits_for: Cell::new(None) }
    }

    /// Tells one event.
    pub fn tell(&self, event: &Event) {
        if self.json {
            if let Ok(line) = serde_json::to_string(event) {
                // Somebody who stopped reading must not stop the recovery.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
            return;
        }
        if let What::Progress(progress) = &event.what {
            self.say_what_it_waits_for(&event.recovery, progress);
            self.bar.borrow().show(progress.done, progress.total, progress.rate, progress.eta_s);
            return;
        }
        self.bar.borrow().clear();
        match &event.what {
            What::StepStarted { step } => {
                *self.bar.borrow_mut() = Bar::new(step.name());
                note(&format!("{}: {} …", event.recovery, doing(*step)));
            }
            What::Item { item, state: ItemState::Begun, .. } => note(&format!("{}: {item} …", event.recovery)),
            What::Item { item, state, said, .. } => {
                note(&format!("{}: {item} {}", event.recovery, state.word()));
                said.iter().for_each(|said| note(&format!("  {}", plain(said))));
            }
            What::StepFinished { step, seconds, bytes } => {
                let bytes = bytes.map(|bytes| format!(", {}", Bytes(bytes))).unwrap_or_default();
                note(&format!("{}: {} done in {}{bytes}", event.recovery, step.name(), Seconds(*seconds)));
            }
            What::Approach { strategy, why, .. } if why.is_empty() => {
                note(&format!("{}: the way is {}", event.recovery, strategy.word()));
            }
            What::Approach { strategy, why, .. } => {
                note(&format!("{}: the way is {}, because {}", event.recovery, strategy.word(), plain(why)));
            }
            What::Resumed { found } => note(&format!("{}: {}", event.recovery, plain(found))),
            What::State { state } => note(&format!("{}: {state}", event.recovery)),
            What::Finding(finding) => {
                note(&format!("{}: {}: {}", event.recovery, finding.severity, plain(&finding.message)));
                if let Some(hint) = &finding.hint {
                    note(&format!("{}: hint: {}", event.recovery, plain(hint)));
                }
            }
            What::Stopped { stopped, .. } => {
                note(&format!("{}: PostgreSQL {}", event.recovery, describe_stopped(stopped, self.zone)));
            }
            _ => {}
        }
    }

    /// Once for each thing; that segments are fetched needs no words.
    fn say_what_it_waits_for(&self, recovery: &str, progress: &Progress) {
        let waits_for = progress.waits_for.filter(|waits| *waits != WaitsFor::Archive);
        if self.waits_for.replace(waits_for) != waits_for
            && let (Some(_), Some(doing)) = (waits_for, &progress.doing)
        {
            self.bar.borrow().clear();
            note(&format!("{recovery}: {}", plain(doing)));
        }
    }

    /// Tells the end: the recovery object as the last of the JSON lines.
    pub fn finish(&self, recovery: &crate::event::Recovery) {
        self.bar.borrow().clear();
        if self.json
            && let Ok(line) = serde_json::to_string(&std::collections::BTreeMap::from([("recovery", recovery)]))
        {
            let _ = print(&line);
        }
    }

    /// Takes the bar away before something else is printed.
    pub fn clear(&self) {
        self.bar.borrow().clear();
    }
}

/// Where PostgreSQL stopped, in words: `stopped before transaction 735, 2024-10-02 …`
#[must_use]
pub fn describe_stopped(stopped: &Stopped, zone: Zone) -> String {
    let side = if stopped.before { "before" } else { "after" };
    let what = match (stopped.xid, &stopped.name, stopped.lsn) {
        (Some(xid), ..) => format!("{side} the end of transaction {xid}"),
        (_, Some(name), _) => format!("at restore point “{}”", plain(name)),
        (_, _, Some(lsn)) => format!("{side} the record at LSN {lsn}"),
        _ => "as soon as the data was consistent".to_owned(),
    };
    let at = stopped.at.map(|at| format!(", {}", at.in_zone(zone))).unwrap_or_default();
    format!("stopped {what}{at}")
}

fn doing(step: StepId) -> &'static str {
    match step {
        StepId::MakeWay => "renaming the data directory that is there",
        StepId::Unpack => "unpacking the base backup",
        StepId::Combine => "combining the base backups",
        StepId::Snapshot => "copying the unpacked data",
        StepId::Configure => "writing the settings",
        StepId::Start => "starting the server",
        StepId::Replay => "replaying WAL",
        StepId::Promote => "promoting",
        StepId::Stop => "stopping the server",
        StepId::Discard => "removing what was made",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_fits_into_every_terminal() {
        let most = line("reading WAL", 999 << 30, Some(1000 << 30), Some(1e9), Some(86_000.0));
        assert!(most.len() <= COLUMNS && most.ends_with("23 h 53 min left"), "{most}");
        assert!(
            line("unpack", 1 << 30, Some(2 << 30), None, None)
                .starts_with("unpack     [############------------]  50 %")
        );
        assert_eq!(line("unpack", 5, None, None, None), "unpack          5 B");
    }
}
