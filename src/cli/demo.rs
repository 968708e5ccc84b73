//! `walback demo`

use std::path::PathBuf;

use crate::error::Result;

use super::{Context, Outcome};

/// Stub until the demonstration is there.
///
/// # Errors
/// Never yet.
pub fn run(_context: Context, _into: Option<PathBuf>, _auto: bool, _bin_dir: Option<PathBuf>) -> Result<Outcome> {
    Ok(Outcome::Done(1))
}
