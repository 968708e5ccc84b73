//! What the interactive program knows and decides, without a terminal: state, messages, commands, effects.
//!
//! Everything that happens is a [`Msg`]; [`update`] folds it into the [`State`] and returns the [`Effect`]s that
//! somebody else carries out. No I/O and no clock here: even the time comes as a message.

mod act;
pub mod archive;
pub mod change;
pub mod chart;
mod checklist;
pub mod command;
pub mod copy;
pub mod course;
pub mod dialog;
pub mod drills;
pub mod editor;
pub mod effect;
pub mod field;
pub mod find;
pub mod guide;
mod kept;
pub mod key;
pub mod keys;
pub mod log;
pub mod msg;
pub mod palette;
pub mod points;
mod press;
pub mod query;
pub mod reach;
mod recoveries;
pub mod rows;
pub mod state;
pub mod suspects;
pub mod unreached;
pub mod update;
pub mod window;

pub use command::{Act, Command, Danger};
pub use dialog::Dialog;
pub use effect::Effect;
pub use key::Key;
pub use msg::{ActionKind, Hit, Msg};
pub use points::Points;
pub use state::{Pane, Screen, Setup, State};
pub use update::update;
