//! Makes a small real cluster with a history and an accident, and recovers it.
//!
//! Everything is real: the server, its archive, the base backup, the second timeline, the lost rows. What happened,
//! to the microsecond, is kept beside it in `story.json`, so that what Walback finds can be held against it.

pub mod base_backup;
pub mod cluster;
pub mod make;
pub mod place;
pub mod rescue;
pub mod story;

pub use make::{Demo, Wish, make};
pub use place::Guard;
pub use rescue::{Rescue, rescue};
pub use story::{Scene, Story};
