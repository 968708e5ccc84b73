//! Makes drills, and lists them.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{Performer, guarded, lock, work};
use crate::app::Msg;
use crate::app::drills::{Ask, Entry, Happened, Listed, News, Standing, Wanted};
use crate::config::Config;
use crate::drill::{Aim, Asked, Drill, Drills, Heard, Known, Which};
use crate::engine::{Recoveries, forecast};
use crate::error::Result;
use crate::event::DrillReport;
use crate::source::Cancel;
use crate::tui::run::MsgSender;

/// The drill that this program has begun last, if any.
#[derive(Debug, Default)]
pub(super) struct Begun {
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Begun {
    /// Gives it up where it goes on, and waits until what it made is removed.
    pub(super) fn leave(&mut self, say: &mut dyn FnMut(&str)) {
        let Some(thread) = self.thread.take().filter(|thread| !thread.is_finished()) else { return };
        self.cancel.cancel();
        say("the drill is given up; what it made is being removed …");
        let _ = thread.join();
        say("done; “walback drills” has its report");
    }
}

impl Performer {
    pub(super) fn drill(&mut self, ask: Ask, reply: &MsgSender) {
        match ask {
            Ask::List => self.list_drills(reply),
            Ask::Forecast => self.forecast(reply),
            Ask::Make(wanted) => self.make_drill(wanted, reply),
            Ask::GiveUp => self.drill.cancel.cancel(),
        }
    }

    fn list_drills(&self, reply: &MsgSender) {
        let drills = Drills::below(&self.config.state_directory);
        work(reply, move |reply| {
            reply.send(Msg::Drill(News::Listed(guarded(|| list(&drills)))));
            Ok(())
        });
    }

    fn forecast(&self, reply: &MsgSender) {
        let Some(catalog) = lock(&self.shared.catalog).clone() else { return };
        let recoveries = Recoveries::below(&self.config.state_directory);
        work(reply, move |reply| {
            reply.send(Msg::Drill(News::Forecast(forecast::of_each(&catalog, &recoveries))));
            Ok(())
        });
    }

    fn make_drill(&mut self, wanted: Wanted, reply: &MsgSender) {
        let cancel = Cancel::default();
        let (config, reply, heeded) = (self.config.clone(), reply.clone(), cancel.clone());
        let thread = std::thread::spawn(move || {
            let report = guarded(|| make(&config, wanted, &heeded, &reply));
            reply.send(Msg::Drill(News::Over(report.map(Box::new))));
        });
        self.drill = Begun { cancel, thread: Some(thread) };
    }
}

fn make(config: &Config, wanted: Wanted, cancel: &Cancel, reply: &MsgSender) -> Result<DrillReport> {
    let listen = |id: &str, heard: Heard<'_>| {
        let what = match heard {
            Heard::Event(event) => Happened::Event(event.clone()),
            Heard::Doing(doing) => Happened::Doing(doing.to_owned()),
            Heard::Checked(check) => Happened::Checked(check.clone()),
            Heard::Note(note) => Happened::Note(note.to_owned()),
        };
        reply.send(Msg::Drill(News::Happened { drill: id.to_owned(), what }));
    };
    let asked = Asked {
        aim: wanted.target.map_or(Aim::Random, Aim::At),
        which: wanted.backup.as_deref().map_or(Which::Default, Which::of),
        scratch: wanted.scratch.map(PathBuf::from),
        bin_dir: None,
        keep: false,
    };
    Ok(Drill::new(config, &listen)?.run(&asked, cancel)?.sealed.report)
}

fn list(drills: &Drills) -> Result<Listed> {
    let entry = |known: Known| {
        let (id, standing, report) = match known {
            Known::Over(report) => (report.id.clone(), Standing::Over(report.result), Some(report)),
            Known::Broken(id, why) => (id, Standing::Unreadable(why), None),
            Known::Killed(draft) => (draft.report.id.clone(), Standing::Killed, Some(Box::new(draft.report))),
            Known::Running(report, holder) => {
                let who = holder.map_or_else(
                    || "somebody makes it".to_owned(),
                    |holder| format!("process {} of {} on {} makes it", holder.pid, holder.user, holder.host),
                );
                (report.id.clone(), Standing::Running(who), Some(report))
            }
        };
        Entry { directory: drills.place(&id), id, standing, report: report.map(|report| Arc::new(*report)) }
    };
    let problems = drills.verify()?.problems;
    // That the chain cannot be read is one of the problems.
    let all = if problems.is_empty() { drills.all()? } else { drills.all().unwrap_or_default() };
    Ok(Listed { drills: all.into_iter().map(entry).collect(), problems })
}
