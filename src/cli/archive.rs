//! What lies in the archive, read for the commands that tell of it, with a bar while that takes.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::catalog::suspect::MANY_ROWS;
use crate::catalog::{Catalog, Overview};
use crate::core::TimelineId;
use crate::core::progress::Pace;
use crate::error::{Error, ErrorKind, Result};
use crate::source::index::Index;
use crate::source::{LocalSource, Source};

use super::args::Window;
use super::table::plain;
use super::watch::Bar;
use super::{Context, note};

/// How often is shown what was fetched.
const LOOK: Duration = Duration::from_millis(200);

/// The index of an archive. Suspects are those of at least `rows` rows, or as many as the configuration says.
#[must_use]
pub fn index<'a>(context: &Context, source: &'a LocalSource, catalog: &'a Catalog, rows: Option<u64>) -> Index<'a> {
    Index::new(
        source,
        catalog,
        context.config.cache_directory.as_deref(),
        rows.or(context.config.suspect_rows).unwrap_or(MANY_ROWS),
    )
}

/// Looks at everything there is. Where commands have to be asked for it, that may take long: what they give is shown.
///
/// # Errors
/// When the source cannot be read, or when it was cancelled.
pub fn list(context: &Context, source: &LocalSource) -> Result<Catalog> {
    if source.fetched().is_none() {
        return source.list(&context.cancel);
    }
    let (ended, ends) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (bar, started) = (Bar::new("fetching"), Instant::now());
            while ends.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let fetched = source.fetched().unwrap_or_default();
                let rate = fetched.bytes as f64 / started.elapsed().as_secs_f64().max(0.001);
                bar.show(fetched.bytes, None, Some(rate), None);
            }
            bar.clear();
        });
        let catalog = source.list(&context.cancel);
        drop(ended);
        catalog
    })
}

/// Lists a source, and reads everything that was not read before. What a command was taken to have, and has not, is known
/// thereafter.
///
/// # Errors
/// When the source cannot be read, or when it was cancelled.
pub fn read_all(context: &Context, source: &LocalSource, catalog: Catalog) -> Result<(Catalog, Overview)> {
    let seen = overview(context, &index(context, source, &catalog, None))?;
    if catalog.asked.iter().all(|asked| asked.presumed == 0) {
        return Ok((catalog, seen));
    }
    let catalog = list(context, source)?;
    let seen = overview(context, &index(context, source, &catalog, None))?;
    Ok((catalog, seen))
}

/// Reads everything that was not read before.
///
/// # Errors
/// When it was cancelled.
pub fn overview(context: &Context, index: &Index<'_>) -> Result<Overview> {
    let bar = Bar::new("reading");
    let (mut pace, begun) = (Pace::default(), Instant::now());
    let mut progress = |done, total| {
        pace.observe(begun.elapsed().as_secs_f64(), done);
        bar.show(done, Some(total), pace.per_second(), pace.eta_s(total));
    };
    let overview = index.build(&context.cancel, &mut progress, &mut |_| {});
    bar.clear();
    for warning in index.warnings() {
        note(&format!("warning: {}", plain(&warning)));
    }
    overview
}

/// The timelines that a window is about.
///
/// # Errors
/// When there is none of that number.
pub fn timelines(catalog: &Catalog, window: &Window) -> Result<Vec<TimelineId>> {
    let all: Vec<TimelineId> = catalog.timelines.iter().map(|timeline| timeline.id).collect();
    let Some(wanted) = window.timeline else { return Ok(all) };
    if all.contains(&wanted) {
        return Ok(vec![wanted]);
    }
    let known: Vec<String> = all.iter().map(ToString::to_string).collect();
    let error = Error::new(
        ErrorKind::Unreachable,
        "unknown-timeline",
        format!("nothing in the archive is of timeline {wanted}"),
    );
    Err(if known.is_empty() { error } else { error.hint(format!("the timelines are: {}", known.join(", "))) })
}
