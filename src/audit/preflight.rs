//! Preflight requests where none should come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{HeaderMap, Method};

use super::tell;
use crate::fetch;

/// Looks out for preflight requests, which carry no credential, at a layer that reads credentials. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preflights {
    told: Arc<AtomicBool>,
}

impl Preflights {
    /// Tells of the first; of others, to whoever listens to everything. Any other request costs a look at its method.
    #[inline]
    pub(crate) fn look(&self, method: &Method, headers: &HeaderMap) {
        if *method == Method::OPTIONS && fetch::is_preflight(method, headers) {
            self.tell();
        }
    }

    #[cold]
    fn tell(&self) {
        tell::preflight(!self.told.swap(true, Relaxed));
    }
}
