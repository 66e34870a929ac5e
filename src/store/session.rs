//! What a store does for sessions.

use std::time::Duration;

use super::{RevocationStore, StoreFuture};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    session::{SealedToken, SessionRecord, Standing, TokenDigest},
};

/// The sessions of those who signed in, and which of their refresh tokens is good.
///
/// Object-safe. Each call is atomic, and of any number of calls to [`rotate`](Self::rotate) with one token exactly one turns
/// it: a store that breaks this lets a stolen token live on beside the owner's. A call that resolved with `Ok` is as durable
/// as the backend says. A future that is dropped leaves open whether its write happens.
///
/// Whoever ends a session must be able to call back the access tokens that it was given, so a store of sessions is one of
/// revocations as well.
///
/// # Errors
///
/// Every call may fail with [`StoreError::Unavailable`](super::StoreError::Unavailable); callers then answer 503. A store must
/// never answer "no such session" when it cannot tell: somebody would be signed out by an outage.
pub trait SessionStore: RevocationStore {
    /// Adds a session. [`StoreError::Conflict`](super::StoreError::Conflict) if its id is taken.
    fn create(&self, session: NewSession) -> StoreFuture<'_, ()>;

    /// The session with this id, if it has not ended as of `now`.
    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>>;

    /// The session with this id, if it has not ended as of `now`, and what this token is to it. One indexed look-up: any made-up
    /// token costs it.
    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>>;

    /// Does with a refresh token what [`Family::decide`](crate::session::Family::decide) says, in one step.
    ///
    /// A token that was turned is remembered for as long as its session, so that a copy is known however old it is; one that
    /// comes again ends the session as [`revoke`](Self::revoke) does, within this call.
    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated>;

    /// Ends a session, and notes in the same step that its access tokens are called back
    /// ([`Revoked::Session`](super::Revoked::Session)); `false` if there is none, which is noted all the same.
    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool>;

    /// Ends all sessions of a subject but one, or all of them, each as [`revoke`](Self::revoke) does, all in one step; and says
    /// which.
    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>>;

    /// The sessions of a subject that have not ended as of `now`, in the order in which they were last used, latest first:
    /// [`MOST_LISTED`] of them at the most.
    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>>;
}

/// How many sessions of one subject a list has at the most.
pub const MOST_LISTED: usize = 1000;

/// How long a session's access tokens stay called back after it was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CalledBack {
    /// When the last of them has expired.
    pub until: UnixSeconds,
    /// The time.
    pub now: UnixSeconds,
}

/// A session to be added.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// What it is.
    pub session: SessionRecord,
    /// Its first refresh token.
    pub digest: TokenDigest,
    /// When it ends if it is not used before.
    pub ends_at: UnixSeconds,
}

/// A refresh token that was presented, and what is to become of it if it is good.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The session that it names.
    pub id: SessionId,
    /// The token.
    pub presented: TokenDigest,
    /// The token that it turns into.
    pub successor: TokenDigest,
    /// The same, sealed under the one that was presented; empty where there is no grace.
    pub sealed: SealedToken,
    /// For how long the one before the current one may come again.
    pub grace: Duration,
    /// When the session ends if it is used now and not again.
    pub ends_at: UnixSeconds,
    /// Until when its access tokens are called back, should the token be one that was turned before.
    pub called_back_until: UnixSeconds,
    /// The time.
    pub now: UnixSeconds,
}

impl Rotation {
    /// What is noted if the session is ended.
    pub fn called_back(&self) -> CalledBack {
        CalledBack { until: self.called_back_until, now: self.now }
    }
}

/// What became of a refresh token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rotated {
    /// It was the good one, and its successor is now.
    Turned,
    /// It was turned within the grace; this is what it was turned into.
    Again(SealedToken),
    /// It was turned before: the session has been ended.
    Reused,
    /// No session knows it, or the session has ended.
    Unknown,
}

impl<T: SessionStore + ?Sized> SessionStore for std::sync::Arc<T> {
    fn create(&self, session: NewSession) -> StoreFuture<'_, ()> {
        (**self).create(session)
    }

    fn find(&self, id: SessionId, now: UnixSeconds) -> StoreFuture<'_, Option<SessionRecord>> {
        (**self).find(id, now)
    }

    fn look(
        &self,
        id: SessionId,
        token: TokenDigest,
        now: UnixSeconds,
    ) -> StoreFuture<'_, Option<(SessionRecord, Standing)>> {
        (**self).look(id, token, now)
    }

    fn rotate(&self, rotation: Rotation) -> StoreFuture<'_, Rotated> {
        (**self).rotate(rotation)
    }

    fn revoke(&self, id: SessionId, tokens: CalledBack) -> StoreFuture<'_, bool> {
        (**self).revoke(id, tokens)
    }

    fn revoke_all<'a>(
        &'a self,
        subject: &'a str,
        except: Option<SessionId>,
        tokens: CalledBack,
    ) -> StoreFuture<'a, Vec<SessionId>> {
        (**self).revoke_all(subject, except, tokens)
    }

    fn sessions<'a>(&'a self, subject: &'a str, now: UnixSeconds) -> StoreFuture<'a, Vec<SessionRecord>> {
        (**self).sessions(subject, now)
    }
}
