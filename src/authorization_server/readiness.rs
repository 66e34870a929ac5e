//! What a server needs to be ready.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::AuthorizationServer;
#[cfg(feature = "password")]
use crate::ident::{SessionId, UserId};
use crate::{endpoint::Issuer, health::Readiness, store::StoreError};

impl AuthorizationServer {
    /// What it needs to be ready: a key to sign with, and its stores. See [`health`](crate::health).
    pub fn readiness(&self) -> Readiness {
        let issuer = &self.issuer;
        let readiness = needs(Readiness::new(), "signing_keys", true, issuer, signing_keys);
        #[cfg(feature = "password")]
        let readiness = match issuer.login {
            Some(_) => needs(readiness, "users", false, issuer, users),
            None => readiness,
        };
        #[cfg(feature = "password")]
        let readiness = match issuer.sessions {
            Some(_) => needs(readiness, "sessions", false, issuer, sessions),
            None => readiness,
        };
        let readiness = match &issuer.revocations {
            Some(list) => list.clone().needed_by(readiness, Arc::clone(&issuer.clock)),
            None => readiness,
        };
        match &issuer.limiter {
            Some(limiter) if limiter.needs_store() => needs(readiness, "login_attempts", true, issuer, login_attempts),
            _ => readiness,
        }
    }
}

type Answer = BoxFuture<'static, Result<(), StoreError>>;

fn needs(
    readiness: Readiness,
    name: &'static str,
    told_elsewhere: bool,
    issuer: &Arc<Issuer>,
    probe: fn(Arc<Issuer>) -> Answer,
) -> Readiness {
    let issuer = Arc::clone(issuer);
    readiness.needs(name, told_elsewhere, move || probe(Arc::clone(&issuer)))
}

fn signing_keys(issuer: Arc<Issuer>) -> Answer {
    let probe = async move {
        let key = issuer.keys.signing(issuer.clock.now()).await;
        key.map(drop).ok_or_else(|| StoreError::unavailable("no key may sign"))
    };
    probe.boxed()
}

/// Somebody who is not there is looked for by an index, as cheaply as anybody.
#[cfg(feature = "password")]
fn users(issuer: Arc<Issuer>) -> Answer {
    let probe = async move {
        let Some(login) = &issuer.login else { return Ok(()) };
        let nobody = UserId::random().map_err(StoreError::unavailable)?;
        login.users.find_by_id(&nobody).await.map(drop)
    };
    probe.boxed()
}

#[cfg(feature = "password")]
fn sessions(issuer: Arc<Issuer>) -> Answer {
    let probe = async move {
        let Some(sessions) = &issuer.sessions else { return Ok(()) };
        let none = SessionId::random().map_err(StoreError::unavailable)?;
        sessions.store.find(none, issuer.clock.now()).await.map(drop)
    };
    probe.boxed()
}

fn login_attempts(issuer: Arc<Issuer>) -> Answer {
    let probe = async move {
        match &issuer.limiter {
            Some(limiter) => limiter.store_answers().await,
            None => Ok(()),
        }
    };
    probe.boxed()
}
