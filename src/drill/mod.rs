//! Drills: a recovery that is made to prove the backups, checked, measured, reported, and removed again.

pub mod aim;
mod alarm;
mod begin;
mod checks;
mod limit;
mod measure;
pub mod page;
mod remains;
pub mod run;
pub mod store;
mod verdict;

pub use aim::{Aim, Which};
pub use run::{Asked, Done, Drill, Heard, Listen};
pub use store::{Drills, Known, Link};
