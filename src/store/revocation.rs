//! What a store does to call access tokens back.

use super::StoreFuture;
use crate::{clock::UnixSeconds, ident::SessionId};

/// Which access tokens are called back before they expire.
///
/// Object-safe. Each call is atomic. A revocation that [`revoke_tokens`](Self::revoke_tokens) has resolved for is in every
/// list that is asked for from then on, on every machine, until the moment that it names: one that is left out is a token that
/// opens doors after its owner has signed out.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`](super::StoreError::Unavailable). A store must never answer with a list
/// that may lack something.
pub trait RevocationStore: Send + Sync + 'static {
    /// Notes what is called back, all of it or nothing. To note something again is no error.
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()>;

    /// What was noted since `cursor` was handed out, and has not run out as of `now`; from [`Cursor::START`], all of it. May
    /// repeat what was handed out before.
    ///
    /// [`StoreError::Full`](super::StoreError::Full) if that is more than [`MOST_REVOCATIONS`].
    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations>;
}

/// How many revocations are in force at once, at the most.
pub const MOST_REVOCATIONS: usize = 1_000_000;

impl Revocation {
    /// Calls back the tokens of a session.
    pub fn of_session(id: SessionId, until: UnixSeconds) -> Self {
        Self { tokens: Revoked::Session(id), until }
    }
}

/// Tokens that are called back.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Revocation {
    /// Which.
    pub tokens: Revoked,
    /// When the last of them has expired, so that this may be forgotten.
    pub until: UnixSeconds,
}

/// Which tokens are called back.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Revoked {
    /// The one with this `jti`.
    Token(String),
    /// Those of this session (`sid`).
    Session(SessionId),
    /// Those of this subject (`sub`) that were issued at this moment (`iat`) or before.
    Subject(String, UnixSeconds),
}

/// Up to where a list of revocations has been read. What the number counts is the store's own affair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor(pub u64);

impl Cursor {
    /// Before the first.
    pub const START: Self = Self(0);
}

/// What was called back.
#[derive(Clone, Debug)]
pub struct Revocations {
    /// In no particular order.
    pub list: Vec<Revocation>,
    /// Where to go on.
    pub cursor: Cursor,
}

impl<T: RevocationStore + ?Sized> RevocationStore for std::sync::Arc<T> {
    fn revoke_tokens(&self, revocations: Vec<Revocation>, now: UnixSeconds) -> StoreFuture<'_, ()> {
        (**self).revoke_tokens(revocations, now)
    }

    fn revocations(&self, cursor: Cursor, now: UnixSeconds) -> StoreFuture<'_, Revocations> {
        (**self).revocations(cursor, now)
    }
}
