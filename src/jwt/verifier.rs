//! From a token's text to the proof that it is good.

use std::{any::Any, fmt, marker::PhantomData, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    claims::RegisteredClaims,
    keyset::KeySet,
    policy::ClaimsPolicy,
    token::{self, Header, MAX_SIGNATURE, Segments},
};
use crate::{
    clock::UnixSeconds,
    principal::{Identity, Principal},
    rejection::Rejection,
};

/// Claims beside the registered ones: any type of the program's own that `serde` can read from them.
///
/// It is read from the whole payload, so its fields may repeat registered names.
pub trait CustomClaims: DeserializeOwned + Send + Sync + 'static {}

impl<T: DeserializeOwned + Send + Sync + 'static> CustomClaims for T {}

/// For programs that look at registered claims alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct NoClaims {}

/// A token whose signature, issuer, audience, type and times were checked: a [`Verifier`] alone makes them.
///
/// Cheap to clone. `Debug` shows the subject, not the claims.
pub struct Verified<C = NoClaims>(Arc<Checked<C>>);

struct Checked<C> {
    registered: RegisteredClaims,
    custom: C,
}

impl<C> Verified<C> {
    /// The claims of the program's own type.
    pub fn claims(&self) -> &C {
        &self.0.custom
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

impl<C: Send + Sync + 'static> Verified<C> {
    /// The caller, as policies see them.
    pub fn principal(&self) -> Principal {
        Principal::new(Arc::clone(&self.0) as Arc<dyn Identity>)
    }
}

impl<C: Send + Sync> Identity for Checked<C> {
    fn subject(&self) -> &str {
        self.registered.subject().unwrap_or_default()
    }

    fn client_id(&self) -> Option<&str> {
        self.registered.client_id()
    }

    fn scope(&self) -> &str {
        self.registered.scope().unwrap_or_default()
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

/// Checks tokens against one set of keys and one policy. Cheap to clone.
pub struct Verifier<C = NoClaims> {
    rules: Arc<Rules>,
    claims: PhantomData<fn() -> C>,
}

#[derive(Debug)]
struct Rules {
    policy: ClaimsPolicy,
    keys: KeySet,
}

impl<C: CustomClaims> Verifier<C> {
    /// A verifier that accepts what `keys` signed and `policy` allows.
    pub fn new(policy: ClaimsPolicy, keys: KeySet) -> Self {
        Self { rules: Arc::new(Rules { policy, keys }), claims: PhantomData }
    }

    /// Checks `token` as of `now`. Layers read the clock; tests and fuzzers pass any second they like.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] that says which check failed first. No claim is read before the signature has been checked.
    pub fn verify_at(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        let Rules { policy, keys } = &*self.rules;
        if token.len() > policy.max_token {
            return Err(Rejection::TokenTooLong { bytes: token.len(), most: policy.max_token });
        }
        let payload = verify_signature(token, keys, |header| policy.check_type(header))?;
        let registered = RegisteredClaims::parse(payload, policy.max_depth)?;
        policy.check(&registered, now)?;
        let custom = custom(registered.payload())?;
        Ok(Verified(Arc::new(Checked { registered, custom })))
    }
}

impl<C> Clone for Verifier<C> {
    fn clone(&self) -> Self {
        Self { rules: Arc::clone(&self.rules), claims: PhantomData }
    }
}

impl<C> fmt::Debug for Verifier<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifier").field(&self.rules).finish()
    }
}

/// Checks the signature of `token` and returns its payload (RFC 7515 §5.2).
fn verify_signature(
    token: &[u8],
    keys: &KeySet,
    check_header: impl FnOnce(&Header<'_>) -> Result<(), Rejection>,
) -> Result<String, Rejection> {
    let segments = Segments::split(token)?;
    let header = token::decode_text(segments.header)?;
    let header = Header::parse(&header)?;
    let key = keys.select(header.kid.as_deref(), &header.alg)?;
    check_header(&header)?;
    let mut buffer = [0; MAX_SIGNATURE + 8];
    key.verify(segments.signed, segments.decode_signature(&mut buffer)?)?;
    token::decode_text(segments.payload)
}

/// Reads the program's own claims; for [`NoClaims`] without reading at all.
fn custom<C: CustomClaims>(payload: &str) -> Result<C, Rejection> {
    let mut none = None::<C>;
    if let Some(none) = (&mut none as &mut dyn Any).downcast_mut::<Option<NoClaims>>() {
        *none = Some(NoClaims {});
    }
    none.map_or_else(|| serde_json::from_str(payload).map_err(|_| Rejection::CustomClaims), Ok)
}
