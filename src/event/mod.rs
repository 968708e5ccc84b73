//! Events, what they fold to, and how they are kept.

pub mod buffer;
pub mod drill;
pub mod journal;
pub mod types;

pub use buffer::EventBuffer;
pub use drill::{DrillCheck, DrillReport, DrillResult};
pub use types::{Event, Failure, Phase, Progress, Recovery, RecoveryState, Strategy, WaitsFor, What};
