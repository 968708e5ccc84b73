//! `walback checks` and `walback sql`

use crate::core::Rows;
use crate::drill::Drills;
use crate::engine::query::{ask, check};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Recovery;
use crate::plan::Plan;

use super::args::SqlArgs;
use super::table::{Align, Table, plain};
use super::{Context, note, print};

/// Carries out the checks of the configuration on a recovered server.
///
/// # Errors
/// When there is no recovery, no check is configured, or they are interrupted.
pub fn checks(context: &Context, wanted: Option<&str>) -> Result<u8> {
    let (recovery, plan) = find(context, wanted)?;
    let source = context.config.source()?;
    if source.checks.is_empty() {
        return Err(Error::usage("no-checks", format!("no checks are configured for the source “{}”", source.name))
            .hint("they stand under sources.NAME.checks: docs/configuration.md has an example"));
    }
    let drills = Drills::below(&context.config.state_directory);
    let last = |check: &str| drills.last_value(&source.name, check);
    let results = check(&recovery, &plan, &source.checks, &last, &context.cancel)?;
    let failed = results.iter().filter(|result| !result.passed).count();
    if context.json {
        context.print_json("checks", &results)?;
    } else {
        let mut table = Table::new(&[
            ("CHECK", Align::Left),
            ("RESULT", Align::Left),
            ("VALUE", Align::Right),
            ("EXPECTED", Align::Left),
        ]);
        for result in &results {
            let word = if result.passed { "passed" } else { "FAILED" };
            let value =
                result.value.clone().unwrap_or_else(|| if result.error.is_some() { "?" } else { "null" }.to_owned());
            table.row(vec![result.name.clone(), word.to_owned(), value, result.expected.clone()]);
        }
        print(&table.render())?;
        for result in &results {
            if let Some(error) = &result.error {
                note(&format!("{}: {}", plain(&result.name), plain(error)));
            }
        }
    }
    Ok(if failed > 0 { ErrorKind::Problems.exit_status() } else { 0 })
}

/// Asks a recovered server one query that can change nothing.
///
/// # Errors
/// When there is no recovery, or the server refuses the query.
pub fn sql(context: &Context, args: &SqlArgs) -> Result<u8> {
    let (recovery, plan) = find(context, args.recovery.as_deref())?;
    let rows =
        ask(&recovery, &plan, (&args.database, Some(context.config.zone)), &args.query, args.rows, &context.cancel)?;
    if context.json {
        context.print_json("answer", &rows)?;
    } else {
        print(&table(&rows).render())?;
    }
    if rows.more {
        note(&format!("there are more; --rows {} shows more of them", args.rows.saturating_mul(10)));
    }
    Ok(0)
}

fn find(context: &Context, wanted: Option<&str>) -> Result<(Recovery, Plan)> {
    let recovery = context.recoveries().find(wanted)?;
    let plan = context.recoveries().load(&recovery.id)?.plan;
    let plan = plan.ok_or_else(|| Error::failed("journal-empty", "the journal has no plan"))?;
    Ok((recovery, plan))
}

/// Rows as columns; every value comes from outside.
fn table(rows: &Rows) -> Table {
    let heads: Vec<(&str, Align)> = rows.columns.iter().map(|head| (head.as_str(), Align::Left)).collect();
    let mut table = Table::new(&heads);
    for row in &rows.rows {
        table.row(row.iter().map(|cell| cell.clone().unwrap_or_else(|| "null".to_owned())).collect());
    }
    table
}
