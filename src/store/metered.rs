//! Stores whose calls are measured: every call that this crate makes goes through one of these.

#[cfg(feature = "metrics")]
mod calls;

use std::sync::Arc;

use super::{AttemptStore, KeyStore, RevocationStore, SessionStore, UserStore};

macro_rules! metered {
    ($($function:ident: $store:ident),* $(,)?) => {
        $(
            #[cfg_attr(not(feature = "password"), allow(dead_code, reason = "not all have sessions"))]
            pub(crate) fn $function(store: Arc<dyn $store>) -> Arc<dyn $store> {
                #[cfg(feature = "metrics")]
                let store = Arc::new(calls::Metered { store });
                store
            }
        )*
    };
}

metered! {
    users: UserStore,
    sessions: SessionStore,
    revocations: RevocationStore,
    keys: KeyStore,
    attempts: AttemptStore,
}
