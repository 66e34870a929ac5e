//! Who is calling, whatever kind of credential said so. Gates put it into the request's extensions.

use std::{any::Any, fmt, sync::Arc};

use http::Extensions;

use crate::{
    clock::UnixSeconds,
    ident::UserId,
    rejection::{Answers, Rejection},
    scope::ScopeSet,
    stripe::Apart,
};

/// What a checked credential tells about its bearer.
///
/// `Verified<C>` implements it; so can whatever else proves an identity.
pub trait Identity: Any + Send + Sync {
    /// Who vouches for the subject. Subjects of different issuers have nothing to do with each other.
    fn issuer(&self) -> &str;
    /// Who is acting, in the issuer's namespace: `user:<id>` where this crate issued the token.
    fn subject(&self) -> &str;
    /// The client that acts for the subject, if known.
    fn client_id(&self) -> Option<&str>;
    /// The granted scopes, single spaces between them; empty if there are none.
    fn scope(&self) -> &str;
    /// The session that the credential belongs to, if any.
    fn session_id(&self) -> Option<&str>;
    /// The credential's own identifier, if any.
    fn token_id(&self) -> Option<&str>;
    /// When the person last proved who they are, if known.
    fn auth_time(&self) -> Option<UnixSeconds>;
}

/// The caller of a request, after its credential was checked. Cheap to clone.
///
/// ```
/// use portcullis::principal::Principal;
///
/// fn may_export(caller: &Principal) -> bool {
///     caller.has_scope("reports:export")
/// }
/// ```
#[derive(Clone)]
pub struct Principal {
    identity: Arc<dyn Identity>,
    demanded: Option<Demand>,
}

/// Scopes that the layers passed so far demanded, innermost first. The first is held in place: most routes have one.
#[derive(Clone)]
struct Demand {
    scopes: Arc<Apart<ScopeSet>>,
    outer: Option<Arc<Demand>>,
}

impl Principal {
    /// The caller whom `identity` describes. Only what has checked a credential may make one.
    pub fn new(identity: Arc<dyn Identity>) -> Self {
        Self { identity, demanded: None }
    }

    /// What it was made of, to be told apart by its type.
    pub(crate) fn identity(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.identity) as Arc<dyn Any + Send + Sync>
    }

    /// Who vouches for the subject.
    pub fn issuer(&self) -> &str {
        self.identity.issuer()
    }

    /// Who is acting, in the issuer's namespace.
    pub fn subject(&self) -> &str {
        self.identity.subject()
    }

    /// The user of `issuer` who is acting, if it is one (`user:<id>`). A user's name is theirs together with the issuer:
    /// another issuer's `user:7` is somebody else.
    pub fn user_id(&self, issuer: &str) -> Option<UserId> {
        if self.issuer() == issuer { UserId::from_subject(self.subject()) } else { None }
    }

    /// The client that acts for the subject.
    pub fn client_id(&self) -> Option<&str> {
        self.identity.client_id()
    }

    /// The granted scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.identity.scope().split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether `scope` was granted. Names are compared byte for byte.
    pub fn has_scope(&self, scope: &str) -> bool {
        // Bytes, because they are few: `str::split` sets up a search for each name.
        !scope.is_empty()
            && self.identity.scope().as_bytes().split(|&byte| byte == b' ').any(|name| name == scope.as_bytes())
    }

    /// The session that the credential belongs to.
    pub fn session_id(&self) -> Option<&str> {
        self.identity.session_id()
    }

    /// The credential's own identifier (`jti` of a token).
    pub fn token_id(&self) -> Option<&str> {
        self.identity.token_id()
    }

    /// When the person last proved who they are.
    pub fn auth_time(&self) -> Option<UnixSeconds> {
        self.identity.auth_time()
    }

    /// Notes that a layer demanded `scopes`, so that a layer further in can name them too.
    pub(crate) fn demand(&mut self, scopes: &Arc<Apart<ScopeSet>>) {
        let outer = self.demanded.take().map(Arc::new);
        self.demanded = Some(Demand { scopes: Arc::clone(scopes), outer });
    }

    /// Everything that was demanded so far, and `scopes`.
    pub(crate) fn demanded_with(&self, scopes: &ScopeSet) -> ScopeSet {
        let mut all = scopes.clone();
        let mut next = self.demanded.as_ref();
        while let Some(demand) = next {
            all = all.union(&demand.scopes);
            next = demand.outer.as_deref();
        }
        all
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .field("client_id", &self.client_id())
            .field("scope", &self.identity.scope())
            .finish_non_exhaustive()
    }
}

/// Why a request has no caller, and how to answer: nobody signed in, or no layer looked.
pub(crate) fn absence(extensions: &Extensions) -> (Rejection, Option<Answers>) {
    match extensions.get::<Anonymous>() {
        Some(anonymous) => (Rejection::NoCredential, Some(anonymous.answers.clone())),
        None => (Rejection::LayerMissing("JwtVerifyLayer"), None),
    }
}

/// Left in the extensions by a verifying layer that let a request without credential pass (optional mode).
///
/// It tells a gate further in that nobody is signed in, as opposed to nobody having looked.
#[derive(Clone, Debug)]
pub(crate) struct Anonymous {
    /// How the verifying layer answers, for refusals further in that have no layer of their own.
    pub(crate) answers: Answers,
}
