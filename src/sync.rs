//! Locks and numbers that threads share: the standard library's; for proofs those of `loom`, which tries every order.
//!
//! Code whose order matters takes them from here, so that what is proved is the code that runs. Where a dependency has the
//! atomics, its place is taken by the simplest thing that keeps its documented contract: a lock around the value. The proofs
//! say nothing about what is inside of `arc-swap`, `quick_cache` and `tokio`.

#[cfg(not(all(test, portcullis_loom)))]
mod real {
    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, atomic};

    #[cfg(feature = "jwks-client")]
    pub(crate) use arc_swap::ArcSwapOption;
    pub(crate) use quick_cache::sync::Cache;
    #[cfg(feature = "jwks-client")]
    pub(crate) use tokio::sync::{Notify, watch};
}

#[cfg(not(all(test, portcullis_loom)))]
pub(crate) use self::real::*;

#[cfg(all(test, portcullis_loom))]
mod stand_in;

#[cfg(all(test, portcullis_loom))]
pub(crate) use self::stand_in::*;
