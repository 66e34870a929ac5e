//! Policies, and how they are put together. Pure.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, Method, Request, Uri};

use super::decision::Decision;
use crate::{clock::UnixSeconds, principal::Principal, scope::ScopeSet};

/// Who wants to do what, as a policy sees it.
#[derive(Clone, Copy)]
pub struct Access<'r> {
    caller: &'r Principal,
    method: &'r Method,
    uri: &'r Uri,
    headers: &'r HeaderMap,
    extensions: &'r Extensions,
    now: UnixSeconds,
}

impl<'r> Access<'r> {
    /// What a request wants, as of `now`. `None` if no layer has put a caller into its extensions.
    pub fn of<B>(request: &'r Request<B>, now: UnixSeconds) -> Option<Self> {
        let extensions = request.extensions();
        let caller = extensions.get()?;
        Some(Self { caller, method: request.method(), uri: request.uri(), headers: request.headers(), extensions, now })
    }

    /// Who is calling.
    pub const fn caller(&self) -> &'r Principal {
        self.caller
    }

    /// What for. Only ever the request's own: no header overrides it.
    pub const fn method(&self) -> &'r Method {
        self.method
    }

    /// Of what, as it came: escapes are not resolved. In a nested router it may be what is left of the path.
    pub const fn uri(&self) -> &'r Uri {
        self.uri
    }

    /// The request's header fields, which the client has chosen.
    pub const fn headers(&self) -> &'r HeaderMap {
        self.headers
    }

    /// What layers further out have found.
    pub const fn extensions(&self) -> &'r Extensions {
        self.extensions
    }

    /// The moment.
    pub const fn at(&self) -> UnixSeconds {
        self.now
    }
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, method, .. } = self;
        f.debug_struct("Access").field("caller", caller).field("method", method).finish_non_exhaustive()
    }
}

/// What a policy says: at once, or when it has asked.
pub enum Outcome {
    /// At once.
    Now(Decision),
    /// When this has resolved. Dropped if the client hangs up, or if the layer's patience ends.
    Later(BoxFuture<'static, Decision>),
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        Self::Now(decision)
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(decision) => f.debug_tuple("Now").field(decision).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// Most sets of scopes of which a document says that one will do.
const MOST_ALTERNATIVES: usize = 256;

/// Decides who may do what.
///
/// [`Scopes`](super::Scopes), [`Claim`](super::Claim), [`StepUp`](super::StepUp) and [`SignedIn`] are ready made; [`policy_fn`],
/// [`async_policy_fn`](super::async_policy_fn) and [`ServicePolicy`](super::ServicePolicy) make one of what a program has; [`all`], [`any`] and [`not`] put them together.
pub trait Policy: Send + Sync + 'static {
    /// Decides.
    fn decide(&self, access: &Access<'_>) -> Outcome;

    /// The scopes that it asks for, as challenges of layers further in name them.
    fn scopes(&self) -> ScopeSet {
        ScopeSet::default()
    }

    /// The same for documents: sets of scopes, one of which it needs to allow. All of [`scopes`](Self::scopes) unless implemented,
    /// and where there would be over 256 of them.
    ///
    /// ```
    /// use portcullis::authz::{Policy as _, Scopes, all, any};
    ///
    /// let policy = all((any((Scopes::all_of(["a"])?, Scopes::all_of(["b", "c"])?)), Scopes::all_of(["d"])?));
    /// let texts: Vec<_> = policy.alternatives().iter().map(ToString::to_string).collect();
    /// assert_eq!(texts, ["a d", "b c d"]);
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    fn alternatives(&self) -> Vec<ScopeSet> {
        vec![self.scopes()]
    }
}

macro_rules! forward {
    ($($type:ty),*) => {$(
        impl<P: Policy + ?Sized> Policy for $type {
            fn decide(&self, access: &Access<'_>) -> Outcome {
                (**self).decide(access)
            }

            fn scopes(&self) -> ScopeSet {
                (**self).scopes()
            }

            fn alternatives(&self) -> Vec<ScopeSet> {
                (**self).alternatives()
            }
        }
    )*};
}
forward!(Arc<P>, Box<P>);

/// Policy that allows the callers of one issuer: where several are trusted, what a claim means is said by each for itself.
///
/// ```
/// use portcullis::authz::{AuthorizeLayer, Claim, IssuedBy, all};
///
/// let staff = AuthorizeLayer::new(all((IssuedBy::new("https://id.example"), Claim::one_of("staff", [true])?)));
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone, Debug)]
pub struct IssuedBy(String);

impl IssuedBy {
    /// Allows whom `issuer` vouches for, compared byte for byte.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self(issuer.into())
    }
}

impl Policy for IssuedBy {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        Decision::from(access.caller().issuer() == self.0).into()
    }
}

/// Whoever is signed in may.
#[derive(Clone, Copy, Debug)]
pub struct SignedIn;

impl Policy for SignedIn {
    fn decide(&self, _: &Access<'_>) -> Outcome {
        Decision::Allow.into()
    }
}

/// A policy that asks nobody: a function of the request, to [`Decision`] or `bool`.
///
/// ```
/// use portcullis::authz::{Access, AuthorizeLayer, policy_fn};
///
/// // A subject alone is nobody: another issuer's `user:7` is somebody else.
/// let own = AuthorizeLayer::new(policy_fn(|access: &Access<'_>| {
///     let user = access.caller().user_id("https://id.example");
///     user.is_some_and(|user| access.uri().path().strip_prefix("/users/") == Some(&*user.to_string()))
/// }));
/// ```
pub const fn policy_fn<F, D>(decide: F) -> PolicyFn<F>
where
    F: Fn(&Access<'_>) -> D + Send + Sync + 'static,
    D: Into<Decision>,
{
    PolicyFn(decide)
}

/// From [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F>(F);

impl<F, D> Policy for PolicyFn<F>
where
    F: Fn(&Access<'_>) -> D + Send + Sync + 'static,
    D: Into<Decision>,
{
    fn decide(&self, access: &Access<'_>) -> Outcome {
        Outcome::Now((self.0)(access).into())
    }
}

/// All of `policies` must allow: a tuple of up to eight, or an array.
///
/// One that denies is the end of it; else one that cannot tell is. Those that ask are waited for one after the other, and only if
/// none that need not ask denies; the first to deny then says why. Of nothing, it does not compile:
///
/// ```compile_fail
/// let policy = portcullis::authz::all(());
/// ```
pub const fn all<P: Policies>(policies: P) -> All<P> {
    All(policies)
}

/// One of `policies` must allow: a tuple of up to eight, or an array.
///
/// ```
/// use portcullis::authz::{AuthorizeLayer, Claim, Scopes, all, any};
///
/// let policy = any((
///     Scopes::all_of(["admin"])?,
///     all((Scopes::all_of(["reports:read"])?, Claim::none_of("status", ["suspended"])?)),
/// ));
/// let layer = AuthorizeLayer::new(policy);
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
pub const fn any<P: Policies>(policies: P) -> Any<P> {
    Any(policies)
}

/// `policy` must deny, and not merely be unable to tell. If it says that somebody is disabled or gone, they are refused all the
/// same; but [`all`] does not ask on when one has denied, so a policy that looks for that goes beside `not`, and not within.
///
/// A claim that is missing is not in any set, so `not(Claim::one_of(…))` allows who has none: [`Claim::none_of`](super::Claim::none_of) does not.
pub const fn not<P: Policy>(policy: P) -> Not<P> {
    Not(policy)
}

/// From [`all`].
#[derive(Clone, Copy, Debug)]
pub struct All<P>(P);

/// From [`any`].
#[derive(Clone, Copy, Debug)]
pub struct Any<P>(P);

/// From [`not`].
#[derive(Clone, Copy, Debug)]
pub struct Not<P>(P);

/// Policies that can be combined: tuples of up to eight, and arrays of one or more.
pub trait Policies: sealed::Sealed + Send + Sync + 'static {
    /// What each of them says.
    #[doc(hidden)]
    fn decide_each(&self, access: &Access<'_>, each: &mut dyn FnMut(Outcome));
    /// All scopes that they ask for.
    #[doc(hidden)]
    fn scopes(&self) -> ScopeSet;
    /// The alternatives of each.
    #[doc(hidden)]
    fn alternatives_of_each(&self) -> Vec<Vec<ScopeSet>>;
}

mod sealed {
    /// One that says nothing would allow everything.
    pub trait Sealed {}
}

impl<P: Policy, const N: usize> sealed::Sealed for [P; N] {}

impl<P: Policy, const N: usize> Policies for [P; N] {
    fn decide_each(&self, access: &Access<'_>, each: &mut dyn FnMut(Outcome)) {
        const { assert!(N > 0, "a policy of no policies would decide nothing") }
        for policy in self {
            each(policy.decide(access));
        }
    }

    fn scopes(&self) -> ScopeSet {
        self.iter().fold(ScopeSet::default(), |all, policy| all.union(&policy.scopes()))
    }

    fn alternatives_of_each(&self) -> Vec<Vec<ScopeSet>> {
        self.iter().map(Policy::alternatives).collect()
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Policy),+> sealed::Sealed for ($($name,)+) {}

        impl<$($name: Policy),+> Policies for ($($name,)+) {
            fn decide_each(&self, access: &Access<'_>, each: &mut dyn FnMut(Outcome)) {
                #[expect(non_snake_case, reason = "a value named after its type")]
                let ($($name,)+) = self;
                $(each($name.decide(access));)+
            }

            fn scopes(&self) -> ScopeSet {
                #[expect(non_snake_case, reason = "a value named after its type")]
                let ($($name,)+) = self;
                ScopeSet::default()$(.union(&$name.scopes()))+
            }

            fn alternatives_of_each(&self) -> Vec<Vec<ScopeSet>> {
                #[expect(non_snake_case, reason = "a value named after its type")]
                let ($($name,)+) = self;
                vec![$($name.alternatives()),+]
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);

/// Joins what is said now; then, unless that settles it, what is said later, one after the other.
fn combine(
    policies: &impl Policies,
    access: &Access<'_>,
    first: Decision,
    join: fn(Decision, Decision) -> Decision,
    settled: fn(&Decision) -> bool,
) -> Outcome {
    let (mut decision, mut later) = (first, Vec::new());
    policies.decide_each(access, &mut |outcome| match outcome {
        Outcome::Now(now) => decision = join(std::mem::replace(&mut decision, Decision::Allow), now),
        Outcome::Later(asks) => later.push(asks),
    });
    if later.is_empty() || settled(&decision) {
        return Outcome::Now(decision);
    }
    Outcome::Later(Box::pin(async move {
        for asks in later {
            decision = join(decision, asks.await);
            if settled(&decision) {
                break;
            }
        }
        decision
    }))
}

impl<P: Policies> Policy for All<P> {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        combine(&self.0, access, Decision::Allow, Decision::and, Decision::is_denied)
    }

    fn scopes(&self) -> ScopeSet {
        self.0.scopes()
    }

    fn alternatives(&self) -> Vec<ScopeSet> {
        let each = self.0.alternatives_of_each();
        let ways = each.iter().map(Vec::len).try_fold(1_usize, usize::checked_mul);
        if ways.is_none_or(|ways| ways > MOST_ALTERNATIVES) {
            return vec![self.scopes()];
        }
        each.iter().fold(vec![ScopeSet::default()], |all, more| {
            all.iter().flat_map(|one| more.iter().map(|other| one.union(other))).collect()
        })
    }
}

impl<P: Policies> Policy for Any<P> {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        // Denied by none: what any of them says is more.
        let none = Decision::Deny(super::Denial::Forbidden);
        combine(&self.0, access, none, Decision::or, Decision::is_allowed)
    }

    fn alternatives(&self) -> Vec<ScopeSet> {
        self.0.alternatives_of_each().concat()
    }
}

impl<P: Policy> Policy for Not<P> {
    fn decide(&self, access: &Access<'_>) -> Outcome {
        match self.0.decide(access) {
            Outcome::Now(decision) => Outcome::Now(decision.not()),
            Outcome::Later(asks) => Outcome::Later(Box::pin(async { asks.await.not() })),
        }
    }
}

impl<F> fmt::Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyFn")
    }
}
