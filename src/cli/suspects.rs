//! `walback suspects`

use std::collections::BTreeMap;

use crate::catalog::suspect::MANY_ROWS;
use crate::catalog::{Catalog, Overview, Suspect, SuspectRelation};
use crate::core::Zone;
use crate::core::progress::{counted, grouped};
use crate::engine::host::now;
use crate::error::Result;
use crate::source::names::NameBook;

use super::args::WindowArgs;
use super::table::{Align, Table, plain};
use super::{Context, archive, note, print};

/// So many relations of one suspect are told in the table.
const SHOWN: usize = 3;
/// So many transactions are named before one and the same note.
const NAMED: usize = 5;

/// Lists transactions that destroyed data, the worst first, with what makes a recovery stop just before each.
///
/// # Errors
/// When the source cannot be read, or when it was interrupted.
pub fn run(context: &Context, window: &WindowArgs, rows: Option<u64>) -> Result<u8> {
    let window = window.window(context.config.zone, now())?;
    let (source, catalog) = context.catalog()?;
    let timelines = archive::timelines(&catalog, &window)?;
    let index = archive::index(context, &source, &catalog, rows);
    let overview = archive::overview(context, &index)?;
    let is_meant = |suspect: &&Suspect| timelines.contains(&suspect.timeline) && window.has(suspect.at);
    let mut suspects: Vec<Suspect> = overview.suspects.iter().filter(is_meant).cloned().collect();
    let mut names = NameBook::default();
    names.name(&mut suspects, &catalog, &context.cancel)?;
    for problem in &names.problems {
        note(&format!("warning: {}", plain(problem)));
    }
    if context.json {
        context.print_json("suspects", &suspects)?;
    } else if suspects.is_empty() {
        print(&none_found(&overview, rows.or(context.config.suspect_rows).unwrap_or(MANY_ROWS), context.config.zone))?;
    } else {
        print(&describe(&suspects, context.config.zone))?;
    }
    warn_of_holes(&overview, &catalog);
    Ok(0)
}

/// Where nothing was found, what was looked at, and what does not count.
fn none_found(overview: &Overview, rows: u64, zone: Zone) -> String {
    let commits = overview.segments.iter().map(|segment| u64::from(segment.commits)).sum();
    let latest = overview.segments.iter().filter_map(|segment| segment.latest).max();
    let until = latest.map_or(String::new(), |at| format!(", the last of them at {}", at.in_zone(zone)));
    format!(
        "no transaction there destroyed data, as far as WAL tells; {} in {} were looked at{until}\n\
         deletes and updates of fewer than {} do not count: --rows N",
        counted(commits, "commit"),
        counted(overview.segments.len() as u64, "segment"),
        counted(rows, "row")
    )
}

/// What was not read may hide the worst.
fn warn_of_holes(overview: &Overview, catalog: &Catalog) {
    let missing: u64 = catalog.timelines.iter().flat_map(|timeline| &timeline.gaps).map(|gap| gap.segments).sum();
    let damaged = overview.damaged.len() as u64;
    if missing + damaged > 0 {
        note(&format!(
            "warning: {} missing and {} damaged: what happened there is not known; “walback check” says more",
            counted(missing, "segment"),
            counted(damaged, "place")
        ));
    }
}

/// The table, what WAL does not tell, and how to go on.
fn describe(suspects: &[Suspect], zone: Zone) -> String {
    let mut table = Table::new(&[
        ("KIND", Align::Left),
        ("COMMITTED", Align::Left),
        ("XID", Align::Right),
        ("TLI", Align::Right),
        ("ROWS", Align::Right),
    ]);
    for suspect in suspects {
        table.row(vec![
            suspect.kind.name().to_owned(),
            suspect.at.in_zone(zone),
            suspect.xid.to_string(),
            suspect.timeline.to_string(),
            if suspect.rows > 0 { grouped(suspect.rows) } else { "-".to_owned() },
        ]);
    }
    let table = table.render();
    let mut lines = table.lines();
    let mut text = lines.next().unwrap_or_default().to_owned();
    // On lines of their own: what matters most is not to be behind the edge of a narrow terminal.
    for (line, suspect) in lines.zip(suspects) {
        text.push_str(&format!(
            "\n{line}\n    {}\n    to stop before it: {}",
            plain(&format!("{}{}", describe_relations(&suspect.relations), suspect.in_databases())),
            suspect.stop_before.join(" ")
        ));
    }
    for (said, xids) in notes(suspects) {
        text.push_str(&format!("\n\nnote on {}: {}", xids, plain(said)));
    }
    text.push_str("\n\nA recovery to before one of them: walback … restore OPTIONS --into DIR");
    text
}

/// `public.orders, public.orders_pkey and 3 more`; a relation without a name as `DATABASE/RELFILENODE`.
fn describe_relations(relations: &[SuspectRelation]) -> String {
    let shown = relations.iter().take(SHOWN).map(|relation| match (&relation.name, relation.relfilenode) {
        (Some(name), _) => name.clone(),
        (None, Some(number)) => format!("{}/{number}", relation.database),
        (None, None) => format!("database {}", relation.database),
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match relations.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What is to be said, once each, and of which transactions.
fn notes(suspects: &[Suspect]) -> Vec<(&str, String)> {
    let mut order: Vec<&str> = Vec::new();
    let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for suspect in suspects {
        let Some(said) = suspect.note.as_deref() else { continue };
        if !of.contains_key(said) {
            order.push(said);
        }
        of.entry(said).or_default().push(suspect.xid.to_string());
    }
    let named = |xids: &[String]| {
        let named = xids.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        match xids.len().saturating_sub(NAMED) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    };
    order.into_iter().map(|said| (said, of.get(said).map(|xids| named(xids)).unwrap_or_default())).collect()
}
