//! The other files that PostgreSQL writes: bytes to values and back, without I/O.

pub mod history;
pub mod server_log;
