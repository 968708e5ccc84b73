//! Carries plans out: the only part that changes anything, and all of that in [`host`].

pub mod archive;
pub mod checklist;
pub mod data_directory;
mod drilled;
mod experience;
pub mod fetch;
mod find;
pub mod forecast;
pub mod host;
pub mod mark;
mod near_stop;
pub mod occupant;
pub mod prepare;
pub mod primary;
pub mod query;
pub mod record;
pub mod remains;
pub mod resume;
pub mod run;
pub mod runbook;
pub mod server;
pub mod steps;
mod strategy;
pub mod verify;
pub mod way;

pub use find::Trust;
pub use host::{facts, launch};
pub use prepare::{Preparation, Request};
pub use record::Recoveries;
pub use run::Engine;
