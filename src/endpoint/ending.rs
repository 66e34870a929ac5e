//! Ending sessions, and with each the access tokens that it was given.

use super::issuer::{Issuer, Sessions};
use crate::{
    audit,
    ident::{SessionId, UserId},
    jwt::Verified,
    secret::Secret,
    session::SessionRecord,
    store::StoreError,
};

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NotChanged {
    #[error(transparent)]
    Hash(#[from] crate::password::HashError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Issuer {
    /// Ends a session. Its tokens first: should the rest fail, whoever asked tries again.
    pub(super) async fn end_session(
        &self,
        Sessions { store, .. }: &Sessions,
        session: &SessionRecord,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        self.revoke_sessions(&[session.id]).await?;
        store.revoke(session.id).await?;
        audit::sessions_ended(&session.subject, Some(session.id), 1, reason);
        Ok(())
    }

    /// Ends the session with this id, if it is there and this subject's.
    pub(crate) async fn end_session_of(
        &self,
        subject: Option<&str>,
        id: SessionId,
        reason: &'static str,
    ) -> Result<bool, StoreError> {
        let Some(sessions) = &self.sessions else { return Ok(false) };
        let found = sessions.store.find(id, self.clock.now()).await?;
        let own = |session: &SessionRecord| subject.is_none_or(|subject| session.subject == subject);
        match found.filter(own) {
            Some(session) => self.end_session(sessions, &session, reason).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Ends all sessions of a subject, or all but one, and says how many. With all of them, tokens without session end too.
    pub(crate) async fn end_sessions_of(
        &self,
        subject: &str,
        except: Option<SessionId>,
        reason: &'static str,
    ) -> Result<usize, StoreError> {
        let mut ended = Vec::new();
        if let Some(Sessions { store, .. }) = &self.sessions {
            // Tokens first, as above; those that are refreshed meanwhile are of the same sessions.
            let listed = store.sessions(subject, self.clock.now()).await?;
            let listed = listed.into_iter().map(|session| session.id).filter(|id| Some(*id) != except);
            self.revoke_sessions(&listed.collect::<Vec<_>>()).await?;
            // And sessions that began meanwhile.
            ended = store.revoke_all(subject, except).await?;
            self.revoke_sessions(&ended).await?;
        }
        if except.is_none() {
            self.revoke_subject(subject.to_owned()).await?;
        }
        audit::sessions_ended(subject, None, ended.len(), reason);
        Ok(ended.len())
    }

    /// Ends what the caller's token belongs to: its session, or the token alone if it has none.
    pub(super) async fn log_out(&self, token: &Verified) -> Result<(), StoreError> {
        let caller = token.principal();
        if let Some(id) = caller.session_id().and_then(SessionId::parse) {
            self.end_session_of(Some(caller.subject()), id, "signed out").await?;
            // Also where the session has ended by itself, and for a session that was ended elsewhere a moment ago.
            self.revoke_sessions(&[id]).await?;
        } else if let Some(id) = caller.token_id() {
            self.revoke_token(id.to_owned(), token.expires_at()).await?;
            audit::token_revoked(caller.subject(), id);
        }
        Ok(())
    }

    /// Gives a user another password and ends their sessions, or all but one. `false` if there is no such user.
    pub(crate) async fn set_password(
        &self,
        id: &UserId,
        password: Secret<String>,
        except: Option<SessionId>,
    ) -> Result<bool, NotChanged> {
        let Some(login) = &self.login else { return Ok(false) };
        let hash = login.hasher.hash(password).await?;
        // In this order: a login that is under way with the old password sees the new one, or is ended.
        if !login.users.replace_hash(id, hash).await? {
            return Ok(false);
        }
        self.end_sessions_of(&id.subject(), except, "password changed").await?;
        Ok(true)
    }

    /// Disables a user and ends their sessions, or enables them again. `false` if there is no such user.
    pub(crate) async fn set_disabled(&self, id: &UserId, disabled: bool) -> Result<bool, StoreError> {
        let Some(login) = &self.login else { return Ok(false) };
        if !login.users.set_disabled(id, disabled).await? {
            return Ok(false);
        }
        if disabled {
            self.end_sessions_of(&id.subject(), None, "user disabled").await?;
        }
        Ok(true)
    }
}
