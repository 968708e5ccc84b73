//! `walback checklist`

use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::engine::checklist::list;
use crate::error::{Error, Result};
use crate::event::Recovery;
use crate::plan::checklist::{Change, Item, ItemState};

use super::args::{ActArgs, ChecklistArgs};
use super::ask::confirm;
use super::recoveries::watcher;
use super::restore::conclude;
use super::table::{plain, wrapped};
use super::{Context, print};

/// Lists what is left to do after promotion, does it, or notes that it is not wanted.
///
/// # Errors
/// When the recovery was not promoted, nobody confirms, or something cannot be done.
pub fn run(context: &Context, wanted: Option<&str>, asked: &ChecklistArgs, act: ActArgs) -> Result<u8> {
    let recovery = context.recoveries().find(wanted)?;
    if asked.items.is_empty() && asked.skip.is_empty() {
        return show(context, &recovery);
    }
    let into = asked.into.as_deref().map(absolute).transpose()?;
    let engine = Engine::new(&context.config)?;
    if !asked.items.is_empty() {
        confirm(act.yes, &question(context, &recovery, asked)?, &recovery.id)?;
    }
    let watcher = watcher(context, act);
    let mut done = Ok(recovery.clone());
    for item in &asked.skip {
        done = engine.skip_item(&recovery.id, *item, &|event| watcher.tell(event));
    }
    for item in &asked.items {
        context.cancel.check()?;
        done = engine.do_item(&recovery.id, *item, into.as_deref(), &|event| watcher.tell(event), &context.cancel);
        if done.is_err() {
            break;
        }
    }
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::usage("bad-path", format!("this is no path: {}", path.display())).caused_by(&error))
}

/// What is about to be done, in words.
fn question(context: &Context, recovery: &Recovery, asked: &ChecklistArgs) -> Result<String> {
    let items = list(&context.recoveries(), &recovery.id)?;
    let mut text = format!("On the promoted server of {}:", recovery.id);
    for wanted in &asked.items {
        let Some(item) = items.iter().find(|item| item.item == *wanted) else { continue };
        text.push_str(&format!("\n{}", describe(item)));
    }
    text.push_str("\nThis is done in this order");
    Ok(text)
}

fn show(context: &Context, recovery: &Recovery) -> Result<u8> {
    let items = list(&context.recoveries(), &recovery.id)?;
    if context.json {
        context.print_json("checklist", &items)?;
        return Ok(0);
    }
    let open = items.iter().filter(|item| item.is_left()).count();
    print(&format!("After the promotion of {} to timeline {}: {open} left", plain(&recovery.id), recovery.timeline))?;
    for item in &items {
        print(&format!("\n{}", describe(item)))?;
    }
    if open > 0 {
        let id = plain(&recovery.id);
        print(&format!("\nNext       walback checklist {id} --do ITEM      or, when it is not wanted, --skip ITEM"))?;
    }
    Ok(0)
}

/// An item with everything that it would change.
fn describe(item: &Item) -> String {
    let mut lines = vec![wrapped(&format!("{:<8} {:<14} ", item.state.word(), item.item.word()), item.title)];
    let indent = |text: &str| wrapped("         ", &plain(text));
    lines.extend(item.interrupted.iter().map(|why| indent(why)));
    if item.is_left() {
        lines.push(indent(item.meaning));
        lines.extend(item.facts.iter().map(|fact| indent(fact)));
        lines.extend(
            item.changes
                .iter()
                .filter(|change| change.matters())
                .flat_map(Change::diff)
                .map(|line| format!("           {}", plain(&line))),
        );
        lines.extend(item.commands.iter().map(|command| format!("           {}", plain(command))));
        if item.restarts {
            lines.push(indent("The server is restarted for it; if it does not start so, everything is as before."));
        }
        lines.extend(item.cannot.iter().map(|why| indent(&format!("not now: {why}"))));
    }
    if item.state != ItemState::Skipped {
        lines.extend(item.said.iter().map(|said| indent(said)));
    }
    lines.join("\n")
}
