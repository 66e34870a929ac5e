//! Ending sessions, and with each the access tokens that it was given.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time;

use super::issuer::{Issuer, to_the_end};
use crate::{
    audit,
    ident::{SessionId, UserId},
    jwt::Verified,
    password::{HashError, Lane, PasswordLogin, SignedIn},
    secret::Secret,
    store::{PasswordHash, StoreError, within},
};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// For asking a store again that did not answer in time, which may have done what it was asked for all the same.
pub(super) struct Tries(u32);

impl Tries {
    /// For as long as a minute.
    pub(super) const fn of_a_minute() -> Self {
        Self(30)
    }

    /// Whether there is another one, when its time has come.
    pub(super) async fn another(&mut self) -> bool {
        const PAUSE: Duration = Duration::from_secs(2);
        let Some(left) = self.0.checked_sub(1) else { return false };
        self.0 = left;
        time::sleep(PAUSE).await;
        true
    }
}

/// Sessions of which nobody knows yet what a store has done with them. Whoever finds out tells, once: the task that asks again, or
/// the client that does.
#[derive(Debug, Default)]
pub(crate) struct Unsettled(Mutex<HashSet<SessionId>>);

impl Unsettled {
    /// `false` if it is one already, and somebody asks.
    pub(super) fn begin(&self, id: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    /// `false` if somebody else has found out.
    pub(super) fn settle(&self, id: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// Goes on with it when nobody waits any more. There are as many of these as calls that a store has not answered within a minute,
/// each after a password that was hashed, or for a token of a session, of which there is one at a time.
pub(super) fn later(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(audit::carried(work));
}

/// Replaces the hash of a user who has shown that they know its password. Not if it was given another one meanwhile, or if they
/// were disabled: an administrator who has shut out whoever knows the old password must not be undone. A hash that was merely
/// upgraded meanwhile, by another login of theirs, is replaced like the one before.
async fn replace_own(
    login: &PasswordLogin,
    id: &UserId,
    current: &SignedIn,
    hash: &PasswordHash,
) -> Result<bool, NotChanged> {
    const MOST_UPGRADES: usize = 3;
    for _ in 0..MOST_UPGRADES {
        let Some(user) = within(login.users.find_by_id(id)).await?.filter(|user| !user.disabled) else {
            return Ok(false);
        };
        let right = login.is_still_right(current, &user.password).await;
        if !right.map_err(|_| NotChanged::Hash(HashError::Overloaded))? {
            return Ok(false);
        }
        if within(login.users.swap_hash(id, &user.password, hash.clone())).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Issuer {
    /// Ends the session with this id, if it is there and this subject's.
    pub(crate) async fn end_session_of(
        self: &Arc<Self>,
        subject: Option<String>,
        id: SessionId,
        reason: &'static str,
    ) -> Result<bool, StoreError> {
        let issuer = Arc::clone(self);
        let end = async move {
            let Some(sessions) = &issuer.sessions else { return Ok(false) };
            let found = within(sessions.store.find(id, issuer.clock.now())).await?;
            let own = found.filter(|session| subject.as_ref().is_none_or(|subject| session.subject == *subject));
            match own {
                Some(session) => issuer.end(&session.subject, id, reason).await.map(|()| true),
                None => Ok(false),
            }
        };
        to_the_end(end).await
    }

    /// Ends a session whose subject is known. That can be asked for again until it has been done whole.
    pub(super) async fn end(
        self: &Arc<Self>,
        subject: &str,
        id: SessionId,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        let tokens = self.called_back();
        // A list that is kept elsewhere first: what is gone could not be found again, should that fail.
        self.note_elsewhere(&[id], tokens).await?;
        let ended = match &self.sessions {
            Some(sessions) => within(sessions.store.revoke(id, tokens)).await,
            None => Ok(false),
        };
        // Whoever asks again may be told that there is no such session by now.
        if ended.is_err() && self.unsettled.begin(id) {
            later(Arc::clone(self).see_ended(subject.to_owned(), id, reason));
        }
        let ended = ended?;
        self.learn(&[id], tokens)?;
        if ended {
            self.unsettled.settle(id);
            audit::sessions_ended(subject, Some(id), 1, reason);
        }
        Ok(())
    }

    /// Tells that a session was ended, should it be gone. What the store has called back with it is read from there.
    async fn see_ended(self: Arc<Self>, subject: String, id: SessionId, reason: &'static str) {
        let Some(sessions) = &self.sessions else { return };
        let mut tries = Tries::of_a_minute();
        while tries.another().await {
            let Ok(found) = within(sessions.store.find(id, self.clock.now())).await else { continue };
            if self.unsettled.settle(id) && found.is_none() {
                audit::sessions_ended(&subject, Some(id), 1, reason);
            }
            return;
        }
        self.unsettled.settle(id);
    }

    /// Ends all sessions of a subject, or all but one, and says how many. With all of them, tokens without session end too.
    pub(crate) async fn end_sessions_of(
        self: &Arc<Self>,
        subject: String,
        except: Option<SessionId>,
        reason: &'static str,
    ) -> Result<usize, StoreError> {
        let issuer = Arc::clone(self);
        to_the_end(async move { issuer.end_all(subject, except, reason).await }).await
    }

    async fn end_all(
        &self,
        subject: String,
        except: Option<SessionId>,
        reason: &'static str,
    ) -> Result<usize, StoreError> {
        let mut ended = Vec::new();
        if let Some(sessions) = &self.sessions {
            let tokens = self.called_back();
            if !self.sessions_note {
                let listed = within(sessions.store.sessions(&subject, tokens.now)).await?;
                let listed = listed.into_iter().map(|session| session.id).filter(|id| Some(*id) != except);
                self.note_elsewhere(&listed.collect::<Vec<_>>(), tokens).await?;
            }
            ended = within(sessions.store.revoke_all(&subject, except, tokens)).await?;
            for id in &ended {
                self.unsettled.settle(*id);
            }
            self.learn(&ended, tokens)?;
            self.note_elsewhere(&ended, tokens).await?;
        }
        audit::sessions_ended(&subject, None, ended.len(), reason);
        if except.is_none() {
            self.revoke_subject(subject).await?;
        }
        Ok(ended.len())
    }

    /// Ends what the caller's token belongs to: its session, or the token alone if it has none.
    pub(super) async fn log_out(self: &Arc<Self>, token: Verified) -> Result<(), StoreError> {
        let issuer = Arc::clone(self);
        let end = async move {
            let caller = token.principal();
            if let Some(id) = caller.session_id().and_then(SessionId::parse) {
                issuer.end(caller.subject(), id, "signed out").await?;
            } else {
                issuer.revoke_token(&token).await?;
            }
            Ok(())
        };
        to_the_end(end).await
    }

    /// Gives a user another password and ends their sessions, or all but one. `false` if there is no such user.
    pub(crate) async fn set_password(
        self: &Arc<Self>,
        id: UserId,
        password: Secret<String>,
        except: Option<SessionId>,
    ) -> Result<bool, NotChanged> {
        let issuer = Arc::clone(self);
        let change = async move {
            let changed = issuer.replace_password(&id, None, (password, Lane::Known), except).await?;
            if changed {
                issuer.unlock(&id).await;
            }
            Ok(changed)
        };
        to_the_end(change).await
    }

    /// As [`set_password`](Self::set_password), for a user who has shown that they know the password whose hash is
    /// `current`. `false` as well if they have been disabled, or given another password, since.
    pub(super) async fn replace_password(
        self: &Arc<Self>,
        id: &UserId,
        current: Option<&SignedIn>,
        (password, lane): (Secret<String>, Lane),
        except: Option<SessionId>,
    ) -> Result<bool, NotChanged> {
        let Some(login) = &self.login else { return Ok(false) };
        let hash = login.hasher.hash_in(lane, password).await?;
        // In this order: a login that is under way with the old password sees the new one, or is ended.
        let replaced = match current {
            Some(current) => replace_own(login, id, current, &hash).await,
            None => within(login.users.replace_hash(id, hash.clone())).await.map_err(NotChanged::from),
        };
        let by = if current.is_some() { "user" } else { "program" };
        let untold = replaced.is_err().then_some(by);
        let ended = match replaced {
            Ok(false) => return Ok(false),
            Ok(true) => {
                audit::password_changed(&id.subject(), by);
                self.end_all(id.subject(), except, "password changed").await.map_err(NotChanged::from)
            }
            Err(error) => Err(error),
        };
        if let Err(NotChanged::Store(_)) = ended {
            // Whoever asks again may be told that their password is another one by now; nobody else would end the sessions.
            later(Arc::clone(self).end_all_later(id.clone(), hash, except, untold));
        }
        ended.map(|_| true)
    }

    /// Ends a user's sessions, if this is their hash, as soon as the stores let that be done; and tells that it is, by whose will,
    /// if that was not known yet.
    async fn end_all_later(
        self: Arc<Self>,
        id: UserId,
        hash: PasswordHash,
        except: Option<SessionId>,
        mut untold: Option<&'static str>,
    ) {
        let Some(login) = &self.login else { return };
        let mut tries = Tries::of_a_minute();
        while tries.another().await {
            match within(login.users.find_by_id(&id)).await {
                Ok(Some(user)) if user.password == hash => {}
                // It was not changed, or was changed again.
                Ok(_) => return,
                Err(_) => continue,
            }
            if let Some(by) = untold.take() {
                audit::password_changed(&id.subject(), by);
            }
            if self.end_all(id.subject(), except, "password changed").await.is_ok() {
                return;
            }
        }
        audit::degraded("session store", audit::Undone::SessionsEnd, &"they go on after a change of password");
    }

    /// Lets a user sign in with a password that they were given, however often others have guessed at the one before. Where
    /// that cannot be done, they wait.
    async fn unlock(&self, id: &UserId) {
        let (Some(limiter), Some(login)) = (&self.limiter, &self.login) else { return };
        let unlock = async {
            match within(login.users.find_by_id(id)).await? {
                Some(user) => limiter.unlock(&user.login).await.map(drop),
                None => Ok(()),
            }
        };
        if let Err(error) = unlock.await {
            audit::degraded("store of login attempts", audit::Undone::Unlocking, &error);
        }
    }

    /// Disables a user and ends their sessions, or enables them again. `false` if there is no such user.
    pub(crate) async fn set_disabled(self: &Arc<Self>, id: UserId, disabled: bool) -> Result<bool, StoreError> {
        let issuer = Arc::clone(self);
        let change = async move {
            let Some(login) = &issuer.login else { return Ok(false) };
            let changed = within(login.users.set_disabled(&id, disabled)).await;
            // Also where it is not known whether the store has done it.
            if let Some(current) = &issuer.current {
                current.forget(&id);
            }
            if !changed? {
                return Ok(false);
            }
            audit::user_changed(Some(&id.subject()), if disabled { "disabled" } else { "enabled" });
            if disabled {
                issuer.end_all(id.subject(), None, "user disabled").await?;
            }
            Ok(true)
        };
        to_the_end(change).await
    }
}
