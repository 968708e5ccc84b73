//! The screens, each a function of the state.

pub(super) mod archive;
pub(super) mod dialog;
pub(super) mod drills;
pub(super) mod log;
pub(super) mod palette;
pub(super) mod paused;
pub(super) mod plan;
pub(super) mod points;
pub(super) mod recovery;
pub(crate) mod sql;
