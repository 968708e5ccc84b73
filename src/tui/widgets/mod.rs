//! Parts that screens are made of.

pub(super) mod chart;
pub(super) mod continuity;
pub(super) mod course;
pub(super) mod doc;
pub(super) mod footer;
pub(super) mod gauge;
pub(super) mod header;
pub(super) mod stack;
pub(super) mod timelines;
pub(super) mod trend;
