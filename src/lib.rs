//! Walback walks a PostgreSQL cluster back to its last good moment.
//!
//! Data flows one way through the modules, in the order in which they stand here; `docs/architecture.md` says who
//! may use whom, and `tests/architecture.rs` keeps it so.

pub mod core;
pub mod error;
pub mod pgdata;
pub mod wal;

pub mod catalog;
pub mod resolve;

pub mod plan;

pub mod event;

pub mod config;

pub mod source;

pub mod engine;

pub mod demo;
pub mod drill;

pub mod app;

pub mod cli;
pub mod tui;
