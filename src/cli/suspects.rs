//! `walback suspects`

use crate::error::Result;

use super::Context;
use super::archive;

/// Lists transactions that destroyed data, the worst first.
///
/// # Errors
/// When the source cannot be read.
pub fn run(context: &Context) -> Result<u8> {
    let (source, catalog) = context.catalog()?;
    let overview = archive::overview(context, &source, &catalog, 1000)?;
    context.print_json("suspects", &overview.suspects)?;
    Ok(0)
}
