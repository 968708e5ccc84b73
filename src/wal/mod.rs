//! Bytes in, records out: reading WAL without I/O.
