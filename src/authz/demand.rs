//! What a credential was found to meet is not looked for again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::principal::Principal;

/// Number of a demand whose outcome depends on the credential alone, and so never changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemandId(u64);

impl DemandId {
    /// The next one of this process; none is 0, which stands for no demand.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }

    /// Whether `caller` meets it: as was found before, or by `look`. Only what is met is remembered.
    pub(super) fn is_met(self, caller: &Principal, look: impl FnOnce() -> bool) -> bool {
        let seen = caller.met();
        if seen.is_some_and(|met| met.has(self.0)) {
            return true;
        }
        let met = look();
        if let Some(seen) = seen.filter(|_| met) {
            seen.note(self.0);
        }
        met
    }
}
