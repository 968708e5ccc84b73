//! Stub until the real one is merged.
/// Stub.
#[derive(Debug, Clone, PartialEq)]
pub struct History;
