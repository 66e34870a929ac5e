//! The proof that a token is good, and what it says.

use std::{any::Any, borrow::Cow, collections::HashMap, fmt, sync::Arc};

use http::Extensions;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{
    claims::RegisteredClaims,
    key::KeyId,
    keyset::{KeySet, SetId},
    source::KeySource,
    token::Segments,
};
use crate::{
    clock::UnixSeconds,
    principal::{Identity, Met, Principal},
    rejection::Rejection,
    revocation::RevocationList,
    sync::atomic::{AtomicU64, Ordering},
};

/// Claims beside the registered ones: any type of the program's own that `serde` can read from them.
///
/// It is read from the whole payload, so its fields may repeat registered names.
pub trait CustomClaims: DeserializeOwned + Send + Sync + 'static {}

impl<T: DeserializeOwned + Send + Sync + 'static> CustomClaims for T {}

/// For programs that look at registered claims alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct NoClaims {}

/// A token whose signature, issuer, audience, type and times were checked: a [`Verifier`](super::Verifier) alone makes them.
///
/// Cheap to clone. `Debug` shows the subject, not the claims.
pub struct Verified<C = NoClaims>(pub(super) Arc<Checked<C>>);

pub(super) struct Checked<C> {
    pub(super) registered: RegisteredClaims,
    pub(super) custom: C,
    /// Whose keys and rules it was checked with: the issuer's place, and the key.
    pub(super) issuer: usize,
    pub(super) key: KeyId,
    /// Number of the last set in which the key was seen to be the one for this token.
    pub(super) keys: AtomicU64,
    /// Version of the last list of revocations in which it was seen not to be.
    pub(super) not_revoked: AtomicU64,
    /// Scopes as they count here, where the policy has a map of them.
    pub(super) scope: Option<String>,
    pub(super) met: Met,
}

impl<C> Verified<C> {
    /// The claims of the program's own type.
    pub fn claims(&self) -> &C {
        &self.0.custom
    }

    pub(super) fn text_length(&self) -> usize {
        self.0.registered.payload().len()
    }

    /// Whether the key that checked `token` is the one that checks it now.
    pub(super) fn has_its_key(&self, keys: &KeySource, token: &[u8]) -> bool {
        let seen = &self.0.keys;
        if keys.are(SetId(seen.load(Ordering::Relaxed))) {
            return true;
        }
        let key_in = |keys: &KeySet| keys.key_for(Segments::split(token).ok()?.header);
        let there = keys.current().ok().filter(|keys| key_in(keys) == Some(self.0.key));
        there.inspect(|keys| seen.store(keys.id().0, Ordering::Relaxed)).is_some()
    }

    /// Whether `list` has it. Looked up only if something was added since the last time.
    pub(super) fn is_in(&self, list: &RevocationList) -> bool {
        // Read first: what is added meanwhile makes another version, and is looked for next time.
        let (version, seen) = (list.version(), &self.0.not_revoked);
        if seen.load(Ordering::Relaxed) == version {
            return false;
        }
        let has = list.has(self.0.registered.names());
        if !has {
            seen.store(version, Ordering::Relaxed);
        }
        has
    }

    /// `iss`: who made the token.
    pub fn issuer(&self) -> &str {
        self.0.registered.issuer()
    }

    /// `aud`: whom it is meant for.
    pub fn audience(&self) -> impl Iterator<Item = &str> {
        self.0.registered.audience()
    }

    /// `sub`: whom it is about.
    pub fn subject(&self) -> &str {
        self.0.registered.subject().unwrap_or_default()
    }

    /// `exp`: when it stops being valid.
    pub fn expires_at(&self) -> UnixSeconds {
        self.0.registered.expires_at
    }

    /// `nbf`: when it begins to be valid.
    pub fn not_before(&self) -> Option<UnixSeconds> {
        self.0.registered.not_before
    }

    /// `iat`: when it was made.
    pub fn issued_at(&self) -> Option<UnixSeconds> {
        self.0.registered.issued_at
    }
}

impl<C: CustomClaims> Verified<C> {
    /// The same proof in memory of its own, made of the text that was verified.
    pub(super) fn copy(&self) -> Option<Self> {
        let Checked { registered, scope, issuer, key, keys, not_revoked, .. } = &*self.0;
        Some(Self(Arc::new(Checked {
            registered: RegisteredClaims::parse(registered.payload().to_owned(), u8::MAX).ok()?,
            custom: custom(registered.payload()).ok()?,
            issuer: *issuer,
            key: *key,
            keys: AtomicU64::new(keys.load(Ordering::Relaxed)),
            not_revoked: AtomicU64::new(not_revoked.load(Ordering::Relaxed)),
            scope: scope.clone(),
            met: Met::default(),
        })))
    }
}

impl<C: Send + Sync + 'static> Verified<C> {
    /// The proof that [`JwtVerifyLayer<C>`](super::JwtVerifyLayer) left with a request. `None` if no such layer let it pass,
    /// or one that reads another type of claims.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        // The caller is the proof under another name: a second entry in the extensions would cost every request an
        // allocation, and few handlers ask for it.
        extensions.get::<Principal>()?.identity().downcast().ok().map(Self)
    }

    /// The caller, as policies see them.
    pub fn principal(&self) -> Principal {
        self.clone().into_principal()
    }

    pub(crate) fn into_principal(self) -> Principal {
        Principal::new(self.0)
    }
}

impl<C: Send + Sync + 'static> Identity for Checked<C> {
    fn issuer(&self) -> &str {
        self.registered.issuer()
    }

    fn subject(&self) -> &str {
        self.registered.subject().unwrap_or_default()
    }

    fn client_id(&self) -> Option<&str> {
        self.registered.client_id()
    }

    fn scope(&self) -> &str {
        self.scope.as_deref().or_else(|| self.registered.scope()).unwrap_or_default()
    }

    fn session_id(&self) -> Option<&str> {
        self.registered.session_id()
    }

    fn token_id(&self) -> Option<&str> {
        self.registered.token_id()
    }

    fn auth_time(&self) -> Option<UnixSeconds> {
        self.registered.auth_time
    }

    fn claim(&self, name: &str) -> Option<Value> {
        // Strict JSON with members that are named once: the verifier has seen to it.
        let claims: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(self.registered.payload()).ok()?;
        serde_json::from_str(claims.get(name)?.get()).ok()
    }

    fn met(&self) -> Option<&Met> {
        Some(&self.met)
    }
}

impl<C> Clone for Verified<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for Verified<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("subject", &self.subject()).finish_non_exhaustive()
    }
}

/// Reads the program's own claims; for [`NoClaims`] without reading at all.
pub(super) fn custom<C: CustomClaims>(payload: &str) -> Result<C, Rejection> {
    let mut none = None::<C>;
    if let Some(none) = (&mut none as &mut dyn Any).downcast_mut::<Option<NoClaims>>() {
        *none = Some(NoClaims {});
    }
    none.map_or_else(|| serde_json::from_str(payload).map_err(|_| Rejection::CustomClaims), Ok)
}
