//! Who is calling, whatever kind of credential said so. Gates put it into the request's extensions.

use std::{any::Any, fmt, marker::PhantomData, ops::Deref, sync::Arc};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use serde_json::Value;

use crate::{
    audit::Who,
    clock::UnixSeconds,
    ident::UserId,
    rejection::{Answers, Needs, Rejection, Wire},
    scope::{self, ScopeSet},
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
    /// A claim of the credential, by its name. Read anew each time; `None` unless implemented.
    fn claim(&self, _name: &str) -> Option<Value> {
        None
    }
    /// Which demands its scopes were found to meet. The scopes must never change then.
    #[doc(hidden)]
    fn met(&self) -> Option<&Met> {
        None
    }
}

/// A scope that a type stands for, for extractors that demand it; it must be in the grammar of RFC 6749 §3.3.
pub trait ScopeName: Send + Sync + 'static {
    /// The scope.
    const SCOPE: &'static str;
}

/// A caller who was granted the scope that `S` stands for. It cannot be had otherwise: a function that takes one is called for
/// nobody else.
///
/// ```
/// use portcullis::principal::{ScopeName, Scoped};
///
/// struct Export;
/// impl ScopeName for Export {
///     const SCOPE: &'static str = "reports:export";
/// }
///
/// fn export(caller: &Scoped<Export>) -> String {
///     format!("reports of {}", caller.subject())
/// }
/// ```
pub struct Scoped<S>(Principal, PhantomData<fn() -> S>);

impl<S: ScopeName> Scoped<S> {
    /// The proof, if `caller` was granted the scope.
    pub fn of(caller: Principal) -> Option<Self> {
        const { assert!(scope::is_scope(S::SCOPE), "`ScopeName::SCOPE` is no scope") }
        caller.has_scope(S::SCOPE).then_some(Self(caller, PhantomData))
    }

    /// What is needed: the scope, and those that layers have demanded.
    #[cfg(any(feature = "axum", feature = "tonic"))]
    pub(crate) fn needed(caller: &Principal) -> ScopeSet {
        caller.demanded_with(&scope::Scope::parse(S::SCOPE).into_iter().collect())
    }

    /// The caller.
    pub fn into_principal(self) -> Principal {
        self.0
    }
}

impl<S> Deref for Scoped<S> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl<S> Clone for Scoped<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<S> fmt::Debug for Scoped<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.0).finish()
    }
}

mod met {
    use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Demands that a credential was found to meet, by their numbers. One takes the place of another.
    #[derive(Debug, Default)]
    pub struct Met([AtomicU64; 4]);

    impl Met {
        fn place(&self, demand: u64) -> &AtomicU64 {
            let [one, two, three, four] = &self.0;
            match demand % 4 {
                0 => one,
                1 => two,
                2 => three,
                _ => four,
            }
        }

        pub(crate) fn has(&self, demand: u64) -> bool {
            self.place(demand).load(Relaxed) == demand
        }

        pub(crate) fn note(&self, demand: u64) {
            self.place(demand).store(demand, Relaxed);
        }
    }
}

#[cfg(all(test, portcullis_loom))]
mod proofs;

pub(crate) use self::met::Met;

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
    /// How the layer that let them in answers, for refusals further in.
    answers: Option<Answers>,
    decided: bool,
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
        Self { identity, demanded: None, answers: None, decided: false }
    }

    /// The same caller, whom whatever is further in refuses in this way.
    #[must_use]
    pub fn answered(self, answers: Answers) -> Self {
        Self { answers: Some(answers), ..self }
    }

    /// How to refuse this caller: as the layer that let them in does.
    pub fn answers(&self) -> Answers {
        self.answers.clone().unwrap_or_default()
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

    /// A claim of the credential, by its name: of a token what its issuer has signed. Read anew each time.
    pub fn claim(&self, name: &str) -> Option<Value> {
        self.identity.claim(name)
    }

    /// Who it is, for audit events.
    pub(crate) fn who(&self) -> Who {
        Who::subject(self.subject())
            .issuer(self.issuer())
            .of_client(self.client_id())
            .session(self.session_id().as_ref().map(|id| id as &dyn fmt::Display))
            .token(self.token_id())
    }

    /// Whether it is known that the scopes meet the demand of this number.
    pub(crate) fn met(&self) -> Option<&Met> {
        self.identity.met()
    }

    /// Notes that a layer has decided that the caller may pass, and what it demanded, for layers further in to name too.
    pub(crate) fn decide(&mut self, demanded: Option<&Arc<Apart<ScopeSet>>>) {
        self.decided = true;
        if let Some(scopes) = demanded {
            let outer = self.demanded.take().map(Arc::new);
            self.demanded = Some(Demand { scopes: Arc::clone(scopes), outer });
        }
    }

    /// Whether a layer has decided about the caller.
    pub(crate) const fn is_decided(&self) -> bool {
        self.decided
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

/// Whether a layer looked at who is calling, and saw that nobody is signed in.
pub(crate) fn is_nobody(extensions: &Extensions) -> bool {
    extensions.get::<Principal>().is_none() && extensions.get::<Anonymous>().is_some()
}

/// Why a request is refused: for this reason if there is a caller, else because there is none.
pub(crate) fn reason(extensions: &Extensions, of_caller: Rejection) -> Rejection {
    match extensions.get::<Principal>() {
        Some(_) => of_caller,
        None if is_nobody(extensions) => Rejection::NoCredential,
        None => Rejection::LayerMissing("JwtVerifyLayer"),
    }
}

/// How to answer a request: as the layer does that looked at who is calling.
pub(crate) fn answers(extensions: &Extensions) -> Answers {
    match (extensions.get::<Principal>(), extensions.get::<Anonymous>()) {
        (Some(caller), _) => caller.answers(),
        (None, Some(stranger)) => stranger.answers.clone(),
        (None, None) => Answers::default(),
    }
}

/// Refuses a request, in `own` words or those of the layer that looked at who is calling.
pub(crate) fn refuse<B>(
    request: &Request<B>,
    own: Option<&Answers>,
    rejection: Rejection,
    needs: Option<Needs<'_>>,
) -> Response<Bytes> {
    let (wire, extensions) = (Wire::of(request.headers()), request.extensions());
    let who = extensions.get().map(Principal::who).unwrap_or_default();
    own.cloned().unwrap_or_else(|| answers(extensions)).refuse_caller(who, rejection, needs, wire)
}

/// Left in the extensions by a verifying layer that let a request without credential pass (optional mode).
///
/// It tells a gate further in that nobody is signed in, as opposed to nobody having looked.
#[derive(Clone, Debug)]
pub(crate) struct Anonymous {
    /// How the verifying layer answers, for refusals further in that have no layer of their own.
    pub(crate) answers: Answers,
    /// Whether the route is open on purpose.
    pub(crate) decided: bool,
}
