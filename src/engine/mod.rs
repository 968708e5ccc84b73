//! Carries plans out: the only part that changes anything, and all of that in [`host`].

pub mod facts;
pub mod host;
pub mod launch;
pub mod mark;
pub mod prepare;
pub mod record;
pub mod run;
pub mod server;
pub mod steps;

pub use prepare::{Preparation, Request};
pub use record::Recoveries;
pub use run::Engine;
