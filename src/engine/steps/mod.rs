//! The steps of a recovery, one file each.

pub mod combine;
pub mod configure;
pub mod directory;
pub mod discard;
pub mod fetching;
pub mod make_way;
pub mod promote;
pub mod replay;
pub mod snapshot;
pub mod start;
pub mod stop;
pub mod unpack;
