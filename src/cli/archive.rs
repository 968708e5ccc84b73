//! What lies in the archive, read for the commands that tell of it, with a bar while that takes.

use crate::catalog::{Catalog, Overview};
use crate::error::Result;
use crate::source::LocalSource;
use crate::source::index::Index;

use super::Context;
use super::watch::Bar;

/// Reads everything that was not read before, for suspects of at least `rows` rows.
///
/// # Errors
/// When it was cancelled.
pub fn overview(context: &Context, source: &LocalSource, catalog: &Catalog, rows: u64) -> Result<Overview> {
    let bar = Bar::new("reading");
    let index = Index::new(source, catalog, None, rows);
    let overview =
        index.build(&context.cancel, &mut |done, total| bar.show(done, Some(total), None, None), &mut |_| {});
    bar.clear();
    overview
}
