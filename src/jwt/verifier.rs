//! From a token's text to the proof that it is good.

use std::{fmt, sync::Arc};

use super::{
    cache::{Cache, CacheSize},
    claims::RegisteredClaims,
    keyset::SetId,
    policy::ClaimsPolicy,
    source::{Fetched, KeySource},
    token::{self, Segments},
    verified::{Checked, CustomClaims, NoClaims, Verified, custom},
};
use crate::{
    audit,
    clock::UnixSeconds,
    config::{ConfigError, ConfigErrors},
    metrics::{self, Hot},
    principal::Met,
    rejection::Rejection,
    revocation::RevocationList,
    sync::atomic::AtomicU64,
};

/// That no list has been looked at.
const NO_VERSION: u64 = u64::MAX;

/// Checks tokens against the keys and the policy of their issuer. Cheap to clone.
///
/// ```
/// use portcullis::jwt::*;
///
/// # let (ours, theirs) = (SigningKey::generate(Algorithm::EdDsa)?, SigningKey::generate(Algorithm::Es256)?);
/// # let (ours, theirs) = (KeySet::new([ours.verifying_key()])?, KeySet::new([theirs.verifying_key()])?);
/// let verifier = Verifier::new(ClaimsPolicy::builder("https://id.example", "orders").build()?, ours)
///     .trust(ClaimsPolicy::builder("https://partner.example", "orders").build()?, theirs)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Tokens that were verified are remembered, 10,000 of them and 16 MiB of their text and claims at most, so that one that
/// comes again costs a look-up; and as much as an eighth of that again, for copies of those in heavy use. Their times are
/// checked each time, and whether their key is still one of the issuer's.
pub struct Verifier<C = NoClaims> {
    issuers: Arc<[Trusted]>,
    /// For these issuers and this type of claims alone: it is made anew where either changes.
    cache: Option<Arc<Cache<C>>>,
}

/// An issuer whose tokens are accepted: its rules and its keys, which check its tokens and nobody else's.
#[derive(Clone, Debug)]
struct Trusted {
    policy: ClaimsPolicy,
    keys: KeySource,
    revocations: Option<RevocationList>,
}

impl Trusted {
    fn new(policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Self {
        Self { policy, keys: keys.into(), revocations: None }
    }

    /// Refuses a token that was called back, or of which that cannot be told.
    fn check_revocations<C>(&self, verified: &Verified<C>, now: UnixSeconds) -> Result<(), Failed<'_>> {
        let Some(list) = &self.revocations else { return Ok(()) };
        let usable = list.is_usable(now);
        if verified.is_in(list) {
            return Err(Failed::from(Rejection::Revoked));
        }
        if usable {
            return Ok(());
        }
        Err(Failed { rejection: Rejection::RevocationsUnavailable, keys: None, list: Some(list) })
    }
}

impl Verifier {
    /// A verifier that accepts what `keys` signed and `policy` allows: a [`KeySet`](super::KeySet), or keys that change.
    pub fn new(policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Self {
        let cache = Some(Arc::new(Cache::new(CacheSize::default())));
        Self { issuers: Arc::new([Trusted::new(policy, keys)]), cache }
    }
}

impl<C: CustomClaims> Verifier<C> {
    /// The same, but that it reads claims of the program's own type `D` besides. Tokens that lack them are refused.
    pub fn claims<D: CustomClaims>(self) -> Verifier<D> {
        let cache = self.cache.map(|cache| Arc::new(Cache::new(cache.size())));
        Verifier { issuers: self.issuers, cache }
    }

    /// Sets how many verified tokens are remembered, and how many bytes they may take: 10,000 and 16 MiB unless set, 10
    /// million and 16 GiB at most. Counted are texts and registered claims; what the program's own type takes besides is not.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] that name each number out of bounds.
    pub fn cache(self, entries: usize, bytes: usize) -> Result<Self, ConfigErrors> {
        Ok(Self { cache: Some(Arc::new(Cache::new(CacheSize::new(entries, bytes)?))), ..self })
    }

    /// Remembers no token: each is checked from its first byte to its last each time.
    #[must_use]
    pub fn without_cache(self) -> Self {
        Self { cache: None, ..self }
    }

    /// Accepts the tokens of another issuer as well, with keys and rules of its own. What it grants is granted here, unless
    /// its policy says otherwise with [`scopes`](super::ClaimsPolicyBuilder::scopes).
    ///
    /// # Errors
    ///
    /// [`ConfigError::IssuerTwice`] if the issuer is accepted already.
    pub fn trust(self, policy: ClaimsPolicy, keys: impl Into<KeySource>) -> Result<Self, ConfigErrors> {
        if self.issuers.iter().any(|trusted| trusted.policy.issuer() == policy.issuer()) {
            return Err(ConfigError::IssuerTwice(policy.issuer().to_owned()).into());
        }
        let another = Trusted::new(policy, keys);
        Ok(self.with_issuers(|issuers| issuers.iter().cloned().chain([another]).collect()))
    }

    /// Refuses what `list` says was called back, among the tokens of this issuer. Looked at for each token each time, also
    /// for those that are remembered.
    ///
    /// # Errors
    ///
    /// [`ConfigError::IssuerUnknown`] if no issuer of that name is accepted.
    pub fn revocations(self, issuer: &str, list: RevocationList) -> Result<Self, ConfigErrors> {
        let mut issuers = self.issuers.to_vec();
        let Some(trusted) = issuers.iter_mut().find(|trusted| trusted.policy.issuer() == issuer) else {
            return Err(ConfigError::IssuerUnknown(issuer.to_owned()).into());
        };
        trusted.revocations = Some(list);
        Ok(self.with_issuers(|_| issuers.into()))
    }

    /// With other issuers nothing that is remembered holds.
    fn with_issuers(self, change: impl FnOnce(&[Trusted]) -> Arc<[Trusted]>) -> Self {
        let cache = self.cache.map(|cache| Arc::new(Cache::new(cache.size())));
        Self { issuers: change(&self.issuers), cache }
    }

    /// Checks `token` as of `now`, with the keys that are there. Layers read the clock; tests and fuzzers pass any second
    /// they like. A token that no key here has signed makes keys that are fetched be fetched again, without waiting for it.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] that says which check failed first. The issuer is looked at before anything else, because it
    /// decides whose keys and rules apply; no other claim before the signature has been checked.
    pub fn verify_at(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        self.check(token, now).map_err(|refused| refused.rejection)
    }

    /// As [`verify_at`](Self::verify_at). For a token that none of the keys has signed, of an issuer whose keys are fetched,
    /// they are fetched again first, if that has not just been done; waiting for it is bounded by the time for one fetch, and
    /// needs a Tokio runtime with its timer enabled.
    ///
    /// # Errors
    ///
    /// As [`verify_at`](Self::verify_at).
    pub async fn verify(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        match self.check(token, now) {
            Ok(verified) => Ok(verified),
            Err(Refused { rejection, retry: None }) => Err(rejection),
            Err(Refused { retry: Some(fetched), .. }) => {
                fetched.await;
                self.check_again(token, now)
            }
        }
    }

    /// What it depends on: keys, and lists of what was called back.
    pub(crate) fn sources(&self) -> Vec<(KeySource, Option<RevocationList>)> {
        self.issuers.iter().map(|trusted| (trusted.keys.clone(), trusted.revocations.clone())).collect()
    }

    /// The check after a fetch: whatever it brought is what there is.
    pub(crate) fn check_again(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        let check = || self.check_last(token, now).map_err(Refused::from);
        if audit::is_heard() { self.in_span(token, check) } else { check() }.map_err(|refused| refused.rejection)
    }

    fn check_last(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Rejection> {
        self.check_twice(token, now).map_err(|failed| failed.verdict())
    }

    /// Checks `token`; a refusal says whether it is worth fetching keys and trying again.
    pub(crate) fn check(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Refused> {
        if audit::is_heard() {
            return self.in_span(token, || self.check_first(token, now));
        }
        self.check_first(token, now)
    }

    /// A check, and what is said of it at debug.
    #[cold]
    fn in_span(
        &self,
        token: &[u8],
        check: impl FnOnce() -> Result<Verified<C>, Refused>,
    ) -> Result<Verified<C>, Refused> {
        use tracing::field::Empty;

        let (issuer, subject) = (Empty, Empty);
        let span =
            audit::decision!("verify_token", cache = Empty, issuer, subject, client_id = Empty, token_id = Empty);
        if let Some(cache) = &self.cache {
            span.record("cache", if cache.has(token) { "hit" } else { "miss" });
        }
        let checked = span.in_scope(check);
        match &checked {
            Ok(verified) => {
                let who = verified.principal().who();
                span.record("issuer", who.issuer.as_deref()).record("subject", who.subject.as_deref());
                span.record("client_id", who.client_id.as_deref()).record("token_id", who.token_id.as_deref());
                audit::decided(&span, "ok", None);
            }
            Err(Refused { rejection, retry: Some(_) }) => audit::decided(&span, "waiting", Some(rejection.code())),
            Err(Refused { rejection, retry: None }) => audit::decided(&span, "refused", Some(rejection.code())),
        }
        checked
    }

    fn check_first(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Refused> {
        self.check_twice(token, now).or_else(|failed| {
            let retry = failed.fetch_again(now);
            if retry.is_none() && failed.is_outdated() {
                // Nothing is fetched, because somebody else's fetch has ended just now: look at what it brought.
                return self.check_last(token, now).map_err(Refused::from);
            }
            // With a fetch on its way, it is not known that there is no such key.
            Err(Refused { rejection: failed.verdict(), retry })
        })
    }

    /// Checks once more where the keys have changed while that was done: a verdict must not rest on those before.
    fn check_twice(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Failed<'_>> {
        self.check_with(token, now)
            .or_else(|failed| if failed.is_outdated() { self.check_with(token, now) } else { Err(failed) })
    }

    fn check_with(&self, token: &[u8], now: UnixSeconds) -> Result<Verified<C>, Failed<'_>> {
        let most = self.issuers.iter().map(|issuer| issuer.policy.max_token).max().unwrap_or_default();
        if token.len() > most {
            return Err(Failed::from(Rejection::TokenTooLong { bytes: token.len(), most }));
        }
        let own = Failed::from;
        if let Some(verified) = self.recall(token, now)? {
            return Ok(verified);
        }
        let token_parts = Segments::split(token).map_err(own)?;
        let payload = token::decode_text(token_parts.payload).map_err(own)?;
        let depth = self.issuers.iter().map(|issuer| issuer.policy.max_depth).max().unwrap_or_default();
        let registered = RegisteredClaims::parse(payload, depth).map_err(own)?;
        let issuer = self.issuers.iter().position(|trusted| trusted.policy.issuer() == registered.issuer());
        let trusted = issuer.and_then(|place| self.issuers.get(place).map(|trusted| (place, trusted)));
        let (issuer, trusted) = trusted.ok_or(own(Rejection::WrongIssuer))?;
        let Trusted { policy, keys, .. } = trusted;
        if token.len() > policy.max_token {
            return Err(own(Rejection::TokenTooLong { bytes: token.len(), most: policy.max_token }));
        }
        let its = |seen| move |rejection| Failed { rejection, keys: Some((keys, seen)), list: None };
        if !keys.keep_up(now) {
            return Err(its(None)(Rejection::KeysUnavailable));
        }
        let current = keys.current().map_err(its(None))?;
        let (typ, key) = current.verify(token_parts).map_err(its(Some(current.id())))?;
        policy.check_type(typ).map_err(own)?;
        let scope = policy.check(&registered, now).map_err(own)?;
        let custom = custom(registered.payload()).map_err(own)?;
        let verified = Verified(Arc::new(Checked {
            scope,
            registered,
            custom,
            issuer,
            key,
            keys: AtomicU64::new(current.id().0),
            not_revoked: AtomicU64::new(NO_VERSION),
            met: Met::default(),
        }));
        trusted.check_revocations(&verified, now)?;
        if let Some(cache) = &self.cache {
            cache.insert(token, verified.clone());
        }
        Ok(verified)
    }

    /// A token that was verified before, if that still holds: the same key, times that are right as of `now`, and nobody has
    /// called it back.
    fn recall(&self, token: &[u8], now: UnixSeconds) -> Result<Option<Verified<C>>, Failed<'_>> {
        let Some((cache, verified)) = self.cache.as_ref().and_then(|cache| Some((cache, cache.get(token)?))) else {
            if self.cache.is_some() {
                metrics::count(Hot::Miss, now);
            }
            return Ok(None);
        };
        let trusted = self.issuers.get(verified.0.issuer);
        if let Some(Trusted { keys, .. }) = trusted.filter(|trusted| !trusted.keys.keep_up(now)) {
            return Err(Failed { rejection: Rejection::KeysUnavailable, keys: Some((keys, None)), list: None });
        }
        let Some(trusted) = trusted.filter(|trusted| verified.has_its_key(&trusted.keys, token)) else {
            cache.remove(token);
            metrics::count(Hot::Miss, now);
            return Ok(None);
        };
        metrics::count(Hot::Hit, now);
        trusted.policy.check_times(&verified.0.registered, now).map_err(Failed::from)?;
        trusted.check_revocations(&verified, now)?;
        Ok(Some(verified))
    }
}

/// A check that failed, and with which keys, if it came to that.
struct Failed<'v> {
    rejection: Rejection,
    keys: Option<(&'v KeySource, Option<SetId>)>,
    /// The list of revocations that is too old to tell.
    list: Option<&'v RevocationList>,
}

impl Failed<'_> {
    /// Whether other keys could change the verdict: the token may have been signed with one that is not here yet, which has
    /// another id, or which its issuer publishes under the id of the key before it, or under none.
    const fn depends_on_keys(&self) -> bool {
        matches!(self.rejection, Rejection::UnknownKey | Rejection::BadSignature | Rejection::KeyIdRepeated)
    }

    /// Whether the keys that it was checked with are not those that there are now.
    fn is_outdated(&self) -> bool {
        self.depends_on_keys() && matches!(self.keys, Some((keys, Some(seen))) if !keys.are(seen))
    }

    fn fetch_again(&self, now: UnixSeconds) -> Option<Fetched> {
        if let Some(list) = self.list {
            return list.read_again(now);
        }
        let too_old = matches!(self.rejection, Rejection::KeysUnavailable);
        let (keys, _) = self.keys?;
        (self.depends_on_keys() || (too_old && keys.can_be_old())).then(|| keys.fetch_again(now)).flatten()
    }

    fn verdict(&self) -> Rejection {
        self.keys.map_or(self.rejection, |(keys, _)| keys.verdict(self.rejection))
    }
}

impl From<Rejection> for Failed<'_> {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, keys: None, list: None }
    }
}

/// Why a token is refused for now.
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    /// Resolves when keys have been fetched, or cannot be: then it is worth checking again.
    pub(crate) retry: Option<Fetched>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, retry: None }
    }
}

impl<C> Clone for Verifier<C> {
    fn clone(&self) -> Self {
        Self { issuers: Arc::clone(&self.issuers), cache: self.cache.clone() }
    }
}

impl<C> fmt::Debug for Verifier<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers).field("cache", &self.cache).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use serde::Deserialize;

    use super::*;
    use crate::jwt::{Algorithm, KeySet, SigningKey};

    #[derive(Deserialize)]
    struct Tenant {
        tenant: String,
    }

    #[test]
    fn a_copy_is_the_same_proof() {
        let key = SigningKey::generate(Algorithm::Hs256).unwrap();
        let keys = || KeySet::new([key.verifying_key()]).unwrap();
        let policy = |issuer: &str| ClaimsPolicy::builder(issuer, "a");
        let verifier = Verifier::new(policy("ours").build().unwrap(), keys());
        let mapped = policy("theirs").map_scopes([("reader", "orders:read")]).build().unwrap();
        let verifier = verifier.trust(mapped, keys()).unwrap().claims::<Tenant>();
        let claims = serde_json::json!({
            "iss": "theirs", "aud": ["b", "a"], "sub": "s\u{e9}", "client_id": "c", "jti": "j", "sid": "x\"y", "iat": 1,
            "nbf": 2, "exp": 600, "auth_time": 3, "scope": "admin reader", "tenant": "acme",
        });
        let token = key.sign(&claims).unwrap();
        let proof = verifier.verify_at(token.as_bytes(), UnixSeconds::new(2)).unwrap();
        let copy = proof.copy().unwrap();
        assert!(!Arc::ptr_eq(&proof.0, &copy.0));
        let facts = |proof: &Verified<Tenant>| {
            let Checked { registered, custom, issuer, key, keys, not_revoked, scope, met: _ } = &*proof.0;
            let names = [proof.issuer(), proof.subject(), registered.payload(), &custom.tenant].map(str::to_owned);
            let ids = [registered.client_id(), registered.token_id(), registered.session_id(), registered.scope()];
            let times = [Some(proof.expires_at()), proof.not_before(), proof.issued_at(), registered.auth_time];
            let audience: Vec<String> = proof.audience().map(str::to_owned).collect();
            let scopes: Vec<String> = proof.principal().scopes().map(str::to_owned).collect();
            let seen = [keys, not_revoked].map(|seen| seen.load(Ordering::Relaxed));
            let whose = (*issuer, *key, seen, scope.clone());
            (names, ids.map(|id| id.map(str::to_owned)), times, audience, scopes, whose)
        };
        assert_eq!(facts(&proof), facts(&copy));
        assert_eq!((proof.0.issuer, facts(&copy).4), (1, vec!["orders:read".to_owned()]));
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;
