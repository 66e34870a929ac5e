//! Keys that change, go and come back when a test says so.

use std::sync::{Arc, PoisonError, RwLock};

use super::keyset::{KeySet, SetId};

/// The keys as they are now; `None` while they cannot be had. Clones are the same keys.
#[derive(Clone, Debug)]
pub(crate) struct ManualKeys(Arc<RwLock<Option<KeySet>>>);

impl ManualKeys {
    pub(crate) fn new(keys: KeySet) -> Self {
        Self(Arc::new(RwLock::new(Some(keys))))
    }

    pub(crate) fn set(&self, keys: Option<KeySet>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(super) fn current(&self) -> Option<KeySet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn are(&self, id: SetId) -> bool {
        self.current().is_some_and(|keys| keys.id() == id)
    }
}
