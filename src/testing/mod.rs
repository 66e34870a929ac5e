//! For tests of what is built on this crate.
//!
//! [`stores`] holds a store of your own to what every store promises.

pub mod stores;
