//! Grants for users: a password (RFC 6749 §4.3), and what goes on from it (§6).

use std::{fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, header::USER_AGENT};
use http_body_util::Full;

use super::{Answer, Carrier, EndpointError, Form, Grant, Issuer, Parts, ScopeSet, audit, grant, requested_scope};
use crate::{
    audit::{LoginWatch, Undone, Who},
    client::{Client, GrantType},
    client_ip::ClientIp,
    clock::UnixSeconds,
    endpoint::{
        ending::{Tries, later},
        issuer::{Sessions, failed},
    },
    ident::{SessionId, UserId},
    login::{LoginAttempt, LoginOutcome},
    password::{Lane, Outcome, PasswordLogin, SignedIn},
    random,
    session::{RefreshToken, SealedToken, SessionRecord, Standing, TokenDigest},
    store::{NewSession, Rotated, Rotation, SessionStore, turned, within},
};

/// A session to be begun.
struct Beginning<'a> {
    subject: &'a str,
    client: &'a Client,
    audience: Vec<String>,
    scope: &'a ScopeSet,
    label: String,
    network: String,
    now: UnixSeconds,
}

/// A session that is ready to be begun.
struct Prepared<'a> {
    store: &'a dyn SessionStore,
    new: NewSession,
    token: RefreshToken,
}

/// Who got a token, for audit events.
fn who(subject: &str, client: &Client, session: Option<SessionId>, token_id: &str) -> Who {
    let session = session.as_ref().map(|id| id as &dyn Display);
    Who::subject(subject).of_client(Some(client.id())).session(session).token(Some(token_id))
}

/// An answer that was made, and the access token that it carries.
struct Answered {
    response: Response<Full<Bytes>>,
    token_id: String,
}

impl Issuer {
    /// RFC 6749 §4.3, for clients that the server's owner trusts with passwords.
    pub(in crate::endpoint) async fn password_grant(
        self: &Arc<Self>,
        client: &Client,
        form: &Form,
        parts: &Parts,
        carrier: Carrier<'_>,
        outcome: &mut LoginOutcome,
    ) -> Answer {
        let Some(login) = &self.login else { return Err(EndpointError::UnsupportedGrantType) };
        if !client.may(GrantType::Password) {
            audit::client_refused(Some(client.id()), "grant type not for this client");
            return Err(EndpointError::UnauthorizedClient);
        }
        let mut watch = LoginWatch::default();
        let answer = self.log_in(login, client, form, parts, carrier, (outcome, &mut watch.subject)).await;
        watch.over();
        answer
    }

    async fn log_in(
        self: &Arc<Self>,
        login: &PasswordLogin,
        client: &Client,
        form: &Form,
        parts: &Parts,
        carrier: Carrier<'_>,
        (outcome, known): (&mut LoginOutcome, &mut Option<String>),
    ) -> Answer {
        let (username, password) = (form.require("username")?, form.require("password")?);
        // Before the password, so that neither a malformed scope nor a foreign resource tells anything about it.
        let requested = requested_scope(form)?;
        let resources = form.resources();
        let audience = self.audience(client, &resources, None)?;
        let attempt = parts.extensions.get::<LoginAttempt>();
        let lane = match attempt {
            Some(attempt) if attempt.goes_first() => Lane::Known,
            _ => Lane::Stranger,
        };
        let locked = attempt.is_some_and(LoginAttempt::is_locked);
        let signed_in = match login.sign_in(username, password.into(), lane, locked).await {
            Outcome::SignedIn(signed_in) => signed_in,
            Outcome::Refused(refused) => {
                refused.tell();
                *outcome = LoginOutcome::Failed;
                return Err(EndpointError::InvalidGrant);
            }
            Outcome::Unavailable { retry_after } => return Err(EndpointError::Unavailable { retry_after }),
        };
        audit::note("subject", || signed_in.user.id.subject());
        // Whatever comes of it: nobody has guessed.
        *outcome = LoginOutcome::Succeeded;
        let user = &signed_in.user;
        let subject = user.id.subject();
        *known = Some(subject.clone());
        let limits = self.limits(client, &audience);
        let scope = grant::granted(requested.as_ref(), self.default_scope.as_ref(), &user.scopes, &limits);
        // The password was right: whoever watches for guesses must see this one too.
        let scope = scope.inspect_err(|_| audit::login_failed(Some(&subject), "scope not granted"))?;
        let now = self.clock.now();
        let held = if resources.is_empty() { self.may_be_for(client, None) } else { audience.clone() };
        let issued_at = self.issued_at(&subject, now);
        let beginning = Beginning {
            subject: &subject,
            client,
            audience: held.into_iter().map(str::to_owned).collect(),
            scope: &scope,
            label: label(form, &parts.headers),
            network: network(parts),
            now,
        };
        let prepared = self.sessions.as_ref().map(|sessions| prepare(sessions, beginning)).transpose()?;
        let refresh_token = prepared.as_ref().map(|prepared| prepared.token.expose());
        let session = prepared.as_ref().map(|prepared| prepared.new.session.id);
        let device_token = attempt.filter(|_| carrier.is_body()).and_then(LoginAttempt::device_token);
        let grant = Grant {
            subject: &subject,
            client,
            audience: &audience,
            scope: &scope,
            auth_time: Some(now),
            now,
            issued_at,
            session,
            ends_at: prepared.as_ref().map(|prepared| prepared.new.ends_at),
            refresh_token: refresh_token.as_ref().map(|token| token.as_str()),
            device_token: device_token.as_ref().map(|token| token.expose().as_str()),
        };
        // Before anything is begun: nobody needs a session whose tokens cannot be signed, or do not fit.
        let issued = self.issue(&grant).await?;
        let response = carrier.answer(&issued).inspect_err(|error| {
            if *error == EndpointError::ScopeNotGranted {
                audit::login_failed(Some(&subject), "access token too long for a cookie");
            }
        })?;
        if let Some(Prepared { store, new, .. }) = prepared {
            within(store.create(new)).await.map_err(|error| failed("session store", &error))?;
        }
        let replaced = async {
            self.check_unchanged(login, &signed_in, session).await?;
            self.end_former(carrier, &subject, session).await
        };
        if let Err(error) = replaced.await {
            // Nobody has guessed, nor signed in.
            *outcome = LoginOutcome::NotTried;
            return Err(error);
        }
        audit::login_succeeded(who(&subject, client, session, &issued.token_id));
        login.upgrade_later(*signed_in);
        Ok(response)
    }

    /// Refuses a login whose user was disabled, or given another password, while it was under way. Whoever does that calls
    /// back all sessions and tokens after it; this one may have come later than that, but then it sees the change.
    async fn check_unchanged(
        self: &Arc<Self>,
        login: &PasswordLogin,
        signed_in: &SignedIn,
        session: Option<SessionId>,
    ) -> Result<(), EndpointError> {
        let id = &signed_in.user.id;
        let now = within(login.users.find_by_id(id)).await.map_err(|error| failed("user store", &error))?;
        if let Some(now) = now.filter(|now| !now.disabled) {
            let right = login.is_still_right(signed_in, &now.password).await;
            if right.map_err(|retry_after| EndpointError::Unavailable { retry_after })? {
                return Ok(());
            }
        }
        let subject = id.subject();
        if let Some(id) = session {
            let ended = self.end(&subject, id, "user changed meanwhile").await;
            ended.map_err(|error| failed("session store", &error))?;
        }
        audit::login_failed(Some(&subject), "user changed meanwhile");
        Err(EndpointError::InvalidGrant)
    }

    /// RFC 6749 §6. Whatever can fail does so before the token is turned: an answer that says "try again" must leave the
    /// token good.
    pub(in crate::endpoint) async fn refresh_grant(
        self: &Arc<Self>,
        client: &Client,
        form: &Form,
        carrier: Carrier<'_>,
    ) -> Answer {
        let (Some(login), Some(Sessions { store, policy })) = (&self.login, &self.sessions) else {
            return Err(EndpointError::UnsupportedGrantType);
        };
        // Nothing to tell: a page asks when it is loaded, whoever looks at it.
        let Some(text) = carrier.refresh_token(form)? else { return Err(EndpointError::InvalidGrant) };
        let requested = requested_scope(form)?;
        let Some(presented) = RefreshToken::parse(text) else { return Err(refused(None, "not a refresh token")) };
        let (now, down) = (self.clock.now(), |error| failed("session store", &error));
        let (id, digest) = (presented.session(), presented.digest());
        let Some((session, standing)) = within(store.look(id, digest, now)).await.map_err(down)? else {
            return Err(refused(None, "no such session"));
        };
        let successor = RefreshToken::random(id).map_err(|error| failed("random source", &error))?;
        let [jitter] = random::bytes().map_err(|error| failed("random source", &error))?;
        let sealed = match policy.grace {
            Duration::ZERO => SealedToken::from_bytes(Vec::new()),
            _ => presented.seal(&successor).ok_or_else(|| failed("refresh token", &"cannot be sealed"))?,
        };
        let rotation = Rotation {
            id,
            presented: digest,
            successor: successor.digest(),
            sealed,
            grace: policy.grace,
            ends_at: policy.ends_at(session.expires_at, now, jitter),
            called_back_until: self.called_back().until,
            now,
        };
        let ends_at = rotation.ends_at;
        let refreshing = Refreshing { login, client, form, carrier, requested, session: &session, ends_at };
        match standing {
            Standing::Foreign => Err(refused(Some(&session), "not a token of this session")),
            // Whether it was stolen comes before whatever else may be wrong with the request.
            Standing::Spent => match self.turn(session.clone(), rotation, None).await? {
                Some(sealed) => self.answer_again(&refreshing, &presented, &sealed).await,
                None => Err(refused(Some(&session), "not a token of this session")),
            },
            Standing::Current => {
                // Signed before the token is turned; whose refresh token goes with it is not known for sure.
                let answered = self.reissue(&refreshing, successor.expose().as_str()).await?;
                let whose = who(&session.subject, client, Some(id), &answered.token_id);
                match self.turn(session.clone(), rotation, Some(whose)).await? {
                    None => Ok(answered.response),
                    // Somebody was faster.
                    Some(sealed) => self.answer_again(&refreshing, &presented, &sealed).await,
                }
            }
        }
    }

    /// Turns a token, for `whose` it is. If it was turned before, its successor comes back, sealed, within the grace; otherwise the
    /// session ends. It is done to the end, and told, even if whoever has sent the token hangs up on that.
    async fn turn(
        self: &Arc<Self>,
        session: SessionRecord,
        rotation: Rotation,
        whose: Option<Who>,
    ) -> Result<Option<SealedToken>, EndpointError> {
        let issuer = Arc::clone(self);
        let turn = async move {
            let Some(Sessions { store, .. }) = &issuer.sessions else { return Err(EndpointError::InvalidGrant) };
            let presented = rotation.presented;
            let turned = turned(store.rotate(rotation)).await;
            if turned.is_err() && issuer.unsettled.begin(session.id) {
                later(Arc::clone(&issuer).see_turned(session.clone(), presented, whose.clone()));
            }
            match turned.map_err(|error| failed("session store", &error))? {
                Rotated::Turned => {
                    issuer.unsettled.settle(session.id);
                    if let Some(whose) = whose {
                        audit::session_refreshed(whose, false);
                    }
                    Ok(None)
                }
                Rotated::Again(sealed) => Ok(Some(sealed)),
                Rotated::Reused => {
                    issuer.unsettled.settle(session.id);
                    Err(issuer.reused(&session).await)
                }
                Rotated::Unknown => Err(refused(Some(&session), "not a token of this session")),
            }
        };
        tokio::spawn(audit::carried(turn)).await.unwrap_or_else(|error| Err(failed("refresh", &error)))
    }

    /// Tells what became of a turn that the store did not answer in time. A session that is gone after a spent token came was
    /// ended by that.
    async fn see_turned(self: Arc<Self>, session: SessionRecord, presented: TokenDigest, whose: Option<Who>) {
        let Some(Sessions { store, .. }) = &self.sessions else { return };
        let mut tries = Tries::of_a_minute();
        while tries.another().await {
            let Ok(found) = within(store.look(session.id, presented, self.clock.now())).await else { continue };
            if !self.unsettled.settle(session.id) {
                return;
            }
            match (found, whose) {
                (None, None) if self.clock.now() < session.expires_at => drop(self.reused(&session).await),
                (Some((_, Standing::Spent)), Some(whose)) => audit::session_refreshed(whose, false),
                _ => {}
            }
            return;
        }
        self.unsettled.settle(session.id);
    }

    /// The session has been ended, and its tokens called back in the store.
    async fn reused(self: &Arc<Self>, session: &SessionRecord) -> EndpointError {
        audit::refresh_reused(&session.subject, session.id);
        let (ids, tokens) = ([session.id], self.called_back());
        if let Err(error) = self.learn(&ids, tokens) {
            audit::degraded("revocation store", Undone::TokensEnd, &error);
        }
        if let Err(error) = self.note_elsewhere(&ids, tokens).await {
            // The session is gone: nobody can bring this about once more.
            let issuer = Arc::clone(self);
            later(async move {
                let mut tries = Tries::of_a_minute();
                while tries.another().await {
                    if issuer.note_elsewhere(&ids, tokens).await.is_ok() {
                        return;
                    }
                }
                audit::degraded("revocation store", Undone::TokensEnd, &error);
            });
        }
        EndpointError::InvalidGrant
    }

    /// For a client that asks twice within the grace.
    async fn answer_again(
        &self,
        refreshing: &Refreshing<'_>,
        presented: &RefreshToken,
        sealed: &SealedToken,
    ) -> Answer {
        let session = refreshing.session;
        // It cannot be opened only where it was turned while there was no grace.
        let same = presented.open(sealed).ok_or_else(|| refused(Some(session), "turned without a grace"))?;
        let answered = self.reissue(refreshing, same.expose().as_str()).await?;
        let who = who(&session.subject, refreshing.client, Some(session.id), &answered.token_id);
        audit::session_refreshed(who, true);
        Ok(answered.response)
    }

    /// A new access token of a session, if it may have what is asked for.
    async fn reissue(&self, refreshing: &Refreshing<'_>, refresh_token: &str) -> Result<Answered, EndpointError> {
        let Refreshing { login, client, form, carrier, requested, session, ends_at } = refreshing;
        audit::note("subject", || session.subject.as_str());
        if session.client_id != client.id() {
            refused(Some(session), "session of another client");
            return Err(EndpointError::OthersGrant);
        }
        if self.may_be_for(client, Some(&session.audience)).is_empty() {
            refused(Some(session), "session for another audience");
            return Err(EndpointError::OthersGrant);
        }
        let user = match UserId::from_subject(&session.subject) {
            Some(id) => within(login.users.find_by_id(&id)).await.map_err(|error| failed("user store", &error))?,
            None => None,
        };
        let Some(user) = user.filter(|user| !user.disabled && client.may(GrantType::Password)) else {
            return Err(refused(Some(session), "user disabled or gone, or client may not"));
        };
        let audience = self.audience(client, &form.resources(), Some(&session.audience))?;
        let limits = self.limits(client, &audience);
        let scope = grant::refreshed(requested.as_ref(), &session.scope, &user.scopes, &limits);
        let scope = scope.inspect_err(|_| {
            refused(Some(session), "scope not granted");
        })?;
        let now = self.clock.now();
        let grant = Grant {
            subject: &session.subject,
            client,
            audience: &audience,
            scope: &scope,
            auth_time: Some(session.auth_time),
            now,
            issued_at: self.issued_at(&session.subject, now),
            session: Some(session.id),
            ends_at: Some(*ends_at),
            refresh_token: Some(refresh_token),
            device_token: None,
        };
        let issued = self.issue(&grant).await?;
        let response = carrier.answer(&issued).inspect_err(|error| {
            if *error == EndpointError::ScopeNotGranted {
                refused(Some(session), "access token too long for a cookie");
            }
        })?;
        Ok(Answered { response, token_id: issued.token_id })
    }
}

/// A session that is to go on, and what is asked for.
struct Refreshing<'a> {
    login: &'a PasswordLogin,
    client: &'a Client,
    form: &'a Form,
    carrier: Carrier<'a>,
    requested: Option<ScopeSet>,
    session: &'a SessionRecord,
    ends_at: UnixSeconds,
}

/// Makes a session, which the store does not have yet.
fn prepare<'a>(
    Sessions { store, policy }: &'a Sessions,
    Beginning { subject, client, audience, scope, label, network, now }: Beginning<'_>,
) -> Result<Prepared<'a>, EndpointError> {
    let no_random = |error| failed("random source", &error);
    let id = SessionId::random().map_err(no_random)?;
    let token = RefreshToken::random(id).map_err(no_random)?;
    let [one, two] = random::bytes().map_err(no_random)?;
    let expires_at = policy.expires_at(now, one);
    let session = SessionRecord {
        id,
        subject: subject.to_owned(),
        client_id: client.id().to_owned(),
        scope: scope.clone(),
        audience,
        label,
        network,
        auth_time: now,
        last_used: now,
        expires_at,
    };
    let ends_at = policy.ends_at(expires_at, now, two);
    Ok(Prepared { store: &**store, new: NewSession { session, digest: token.digest(), ends_at }, token })
}

fn refused(session: Option<&SessionRecord>, reason: &'static str) -> EndpointError {
    audit::refresh_refused(session.map(|session| (session.subject.as_str(), session.id)), reason);
    EndpointError::InvalidGrant
}

/// What a device is called: as it says (`device_name`), or else its user agent; as far as that is short and plain.
fn label(form: &Form, headers: &HeaderMap) -> String {
    const MOST: usize = 200;
    let agent = || headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    let text = form.get("device_name").or_else(agent).unwrap_or_default();
    text.chars().filter(|character| !character.is_control()).take(MOST).collect()
}

fn network(parts: &Parts) -> String {
    ClientIp::of(&parts.extensions).map(ClientIp::network).unwrap_or_default()
}
