//! `walback config`

use crate::error::Result;

use super::args::{ConfigCommand, Global};
use super::table::{Align, Table};
use super::{Context, print};

/// Prints the effective configuration, and where each value comes from.
///
/// # Errors
/// When the configuration file cannot be read any more.
pub fn run(context: &Context, global: &Global, command: &ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Show => show(context, global),
    }
}

fn show(context: &Context, global: &Global) -> Result<u8> {
    let settings = context.config.settings(&global.overrides(), &|name| std::env::var_os(name))?;
    if context.json {
        context.print_json("configuration", &settings)?;
        return Ok(0);
    }
    let mut table = Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)]);
    for setting in settings {
        table.row(vec![setting.key, setting.value, setting.from.to_string()]);
    }
    print(&table.render())?;
    Ok(0)
}
