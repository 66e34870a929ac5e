//! What the crate tells, a function for each thing: the one place where events are put together.

use std::fmt::Display;

use http::StatusCode;
use tracing::Level;

use super::{
    TARGET,
    context::{self, Context},
    event::{Event, Who, bounded},
    flood::{self, Flood, Turn},
    kind::{Kind, Undone},
    trail::AuditTrail,
};
#[cfg(feature = "password")]
use crate::ident::SessionId;
use crate::{metrics, rejection::Rejection, scope::ScopeSet};

static FLOOD: Flood = Flood::new();

/// Tells it: to `tracing`, and to the trail of the request, or else of the process.
fn tell(mut event: Event) {
    let (kind, reason) = (event.kind, event.reason);
    event.request = context::current(Context::facts);
    trace_bounded(&event);
    let mut event = Some(event);
    let told = context::current(|context| event.take().is_none_or(|event| context.tell(event)));
    if let (Some(event), Some(trail)) = (event, AuditTrail::installed()) {
        trail.tell(event);
    }
    if kind != Kind::RequestAdmitted && told.unwrap_or(true) {
        metrics::event(kind.name(), reason);
    }
}

/// Tells what is of no request, even if one has brought it about: to the trail of the process, or if there is none, of that request;
/// and does not wait for an answer.
fn tell_at_once(event: Event) {
    metrics::event(event.kind.name(), event.reason);
    let is_usual = trace_bounded(&event);
    let trail = AuditTrail::installed().cloned().or_else(|| context::current(|context| context.trail.clone()));
    if let Some(trail) = trail {
        // A store on the edge of its time comes and goes as often as somebody asks.
        let is_of_anybody = event.kind.is_of_anybody() || !is_usual;
        trail.tell_if_room(event, is_of_anybody);
    }
}

/// Tells `tracing`, but the same again and again only so often; who listens at debug hears all. `false` if it was more often.
fn trace_bounded(event: &Event) -> bool {
    let Some(most) = event.kind.most_a_second().filter(|_| event.level < Level::DEBUG) else {
        trace(event, event.level, None);
        return true;
    };
    let reason = event.reason.or(event.what).unwrap_or_default();
    let turn = FLOOD.take(event.kind, reason, most, flood::second());
    match turn {
        Turn::Tell { suppressed } => trace(event, event.level, Some(suppressed).filter(|&count| count > 0)),
        Turn::Keep => trace(event, Level::DEBUG, None),
    }
    turn != Turn::Keep
}

/// The one place that knows the names of the fields in `tracing`. They are those of the JSON.
fn trace(event: &Event, level: Level, suppressed: Option<u64>) {
    macro_rules! at {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                kind = event.kind.name(),
                reason = event.reason,
                detail = event.detail.as_deref(),
                status = event.status,
                issuer = event.who.issuer.as_deref(),
                subject = event.who.subject.as_deref(),
                client_id = event.who.client_id.as_deref(),
                session = event.who.session.as_deref(),
                token_id = event.who.token_id.as_deref(),
                scope = event.scope.as_deref(),
                what = event.what,
                which = event.which.as_deref(),
                count = event.count,
                request_id = event.request.as_ref().map(|request| &*request.id),
                method = event.request.as_ref().map(|request| &*request.method),
                path = event.request.as_ref().map(|request| &*request.path),
                client_ip = event.request.as_ref().and_then(|request| request.client_ip).map(tracing::field::display),
                suppressed,
                "{}",
                event.message
            )
        };
    }
    match level {
        Level::ERROR => at!(Level::ERROR),
        Level::WARN => at!(Level::WARN),
        Level::INFO => at!(Level::INFO),
        _ => at!(Level::DEBUG),
    }
}

/// A gate refused a request. `who` is known only of a caller whose credential was checked; `scope` is what the caller would have
/// needed.
pub(crate) fn refused(rejection: Rejection, status: StatusCode, who: Who, scope: Option<&ScopeSet>) {
    context::keep_out(true);
    let kind = rejection.verdict().kind;
    let level = match rejection {
        // The outage is told once, where it begins, and not for each request that it hits; a call that failed, where it failed.
        Rejection::KeysUnavailable
        | Rejection::KeyIdRepeated
        | Rejection::RevocationsUnavailable
        | Rejection::StoreUnavailable
        | Rejection::PolicyUndecided("policy service") => Level::DEBUG,
        _ if kind == Kind::InfrastructureFailed => Level::ERROR,
        _ => Level::INFO,
    };
    let event = Event::new(kind, level, "request refused").because(rejection.code()).detail(&rejection).by(who);
    let scope = scope.map(|scope| bounded(&scope.to_string()));
    tell(Event { status: Some(status.as_u16()), scope, ..event });
}

/// A request was let through, and is in the sample. Without a status if its client went away before it was answered.
pub(super) fn admitted(who: Who, status: Option<StatusCode>) {
    let event = Event::new(Kind::RequestAdmitted, Level::DEBUG, "request admitted").by(who);
    tell(Event { status: status.map(|status| status.as_u16()), ..event });
}

/// A preflight request reached a layer that reads credentials. The first is told loudly.
pub(super) fn preflight(first: bool) {
    let level = if first { Level::WARN } else { Level::DEBUG };
    tell(
        Event::new(Kind::LayersMisplaced, level, "layers are in a wrong order")
            .because("preflight at a layer that reads credentials")
            .detail(&"put CorsStrictLayer outside of the layer that reads credentials"),
    );
}

/// A page of another origin was refused, and somebody wants to know why. Not a decision about a caller, so no sink is told.
pub(crate) fn page_refused(reason: &dyn Display) {
    const TARGET: &str = "portcullis::cors";
    match FLOOD.take(Kind::AuthorizationDenied, "page of another origin", 10, flood::second()) {
        Turn::Tell { suppressed } => {
            let suppressed = Some(suppressed).filter(|&count| count > 0);
            tracing::info!(target: TARGET, reason = %reason, suppressed, "page of another origin refused");
        }
        Turn::Keep => tracing::debug!(target: TARGET, reason = %reason, "page of another origin refused"),
    }
}

/// A server was put together.
pub(crate) fn configuration_loaded(what: &'static str, issuer: &str, detail: &dyn Display) {
    let event = Event::new(Kind::ConfigurationLoaded, Level::INFO, "configuration loaded").detail(detail);
    tell(Event { what: Some(what), which: Some(bounded(issuer)), ..event });
}

/// Our own keys are others than before: made here, or by another machine with the same store.
pub(crate) fn own_keys_read(published: usize) {
    let event = Event::new(Kind::KeysFetched, Level::INFO, "keys read");
    tell_at_once(Event { what: Some("key store"), count: Some(published as u64), ..event });
}

/// A set of keys with new content was fetched.
#[cfg(feature = "jwks-client")]
pub(crate) fn keys_fetched(which: &str, usable: usize, skipped: usize, ids_of_several: usize) {
    let level = if ids_of_several > 0 { Level::WARN } else { Level::INFO };
    let detail = format!("{skipped} skipped, {ids_of_several} ids of several");
    let event = Event::new(Kind::KeysFetched, level, "keys fetched").detail(&detail);
    tell_at_once(Event { what: Some("JWKS"), which: Some(bounded(which)), count: Some(usable as u64), ..event });
}

/// Something that decisions need has begun to fail. Told once for each outage.
pub(crate) fn outage_begun(what: &'static str, which: &str, reason: &dyn Display) {
    metrics::outage(what, which, true);
    let event = Event::new(Kind::OutageBegun, Level::ERROR, "outage begun").detail(reason);
    tell_at_once(Event { what: Some(what), which: one_of(which), ..event });
}

/// The outage of an issuer has outlasted its last good keys: its tokens are answered 503 from here on.
#[cfg(feature = "jwks-client")]
pub(crate) fn keys_dropped(which: &str) {
    let event = Event::new(Kind::OutageBegun, Level::ERROR, "last good keys dropped").because("keys too old");
    tell_at_once(Event { what: Some("JWKS"), which: one_of(which), ..event });
}

/// It answers again.
pub(crate) fn outage_over(what: &'static str, which: &str) {
    metrics::outage(what, which, false);
    let event = Event::new(Kind::OutageEnded, Level::INFO, "outage over");
    tell_at_once(Event { what: Some(what), which: one_of(which), ..event });
}

fn one_of(which: &str) -> Option<Box<str>> {
    Some(which).filter(|which| !which.is_empty()).map(bounded)
}

/// An endpoint could not make sense of a request.
pub(crate) fn malformed(status: u16, reason: &'static str) {
    let event = Event::new(Kind::RequestMalformed, Level::INFO, "request refused").because(reason);
    tell(Event { status: Some(status), ..event });
}

/// A user signed in.
#[cfg(feature = "password")]
pub(crate) fn login_succeeded(who: Who) {
    tell(Event::new(Kind::LoginSucceeded, Level::INFO, "login succeeded").by(who));
}

/// A login was not tried, because there were too many failures. Whoever tried is told what is told of a wrong password.
#[cfg(feature = "password")]
pub(crate) fn login_locked_silently(subject: Option<&str>) {
    let who = subject.map(Who::subject).unwrap_or_default();
    tell(Event::new(Kind::LoginLocked, Level::INFO, "login not tried").because("locked_silently").by(who));
}

/// A login failed. `subject` is known only if the login name is.
#[cfg(feature = "password")]
pub(crate) fn login_failed(subject: Option<&str>, reason: &'static str) {
    let who = subject.map(Who::subject).unwrap_or_default();
    tell(Event::new(Kind::LoginFailed, Level::INFO, "login failed").because(reason).by(who));
}

/// Tells of a login that its client did not wait for: whoever hangs up on each of their guesses must not guess unseen.
#[cfg(feature = "password")]
#[derive(Debug, Default)]
pub(crate) struct LoginWatch {
    /// Whose password was right, once it was.
    pub(crate) subject: Option<String>,
    over: bool,
}

#[cfg(feature = "password")]
impl LoginWatch {
    /// It has ended, and somebody tells how.
    pub(crate) fn over(&mut self) {
        self.over = true;
    }
}

#[cfg(feature = "password")]
impl Drop for LoginWatch {
    fn drop(&mut self) {
        if !self.over {
            login_failed(self.subject.as_deref(), "client went away");
        }
    }
}

/// Somebody registered. What they call themselves is not told.
#[cfg(feature = "password")]
pub(crate) fn user_registered(subject: &str) {
    tell(Event::new(Kind::UserRegistered, Level::INFO, "user registered").by(Who::subject(subject)));
}

/// Somebody did not register.
#[cfg(feature = "password")]
pub(crate) fn registration_refused(reason: &'static str) {
    tell(Event::new(Kind::RegistrationRefused, Level::INFO, "registration refused").because(reason));
}

/// A user has another password. `by` whose will it is.
#[cfg(feature = "password")]
pub(crate) fn password_changed(subject: &str, by: &'static str) {
    tell(Event::new(Kind::PasswordChanged, Level::INFO, "password changed").because(by).by(Who::subject(subject)));
}

/// A user did not get another password.
#[cfg(feature = "password")]
pub(crate) fn password_change_refused(subject: &str, reason: &'static str) {
    let event = Event::new(Kind::PasswordChangeRefused, Level::INFO, "password not changed");
    tell(event.because(reason).by(Who::subject(subject)));
}

/// A user was disabled or enabled; or somebody who had failed too often may try again, whose name is not told.
#[cfg(feature = "password")]
pub(crate) fn user_changed(subject: Option<&str>, change: &'static str) {
    let who = subject.map(Who::subject).unwrap_or_default();
    tell(Event::new(Kind::UserChanged, Level::INFO, "user changed").because(change).by(who));
}

/// A hash was replaced by one that is made as new ones are.
#[cfg(feature = "password")]
pub(crate) fn hash_upgraded(subject: &str) {
    tell(Event::new(Kind::HashUpgraded, Level::INFO, "password hash upgraded").by(Who::subject(subject)));
}

/// A hash stays as it is until its owner signs in again. Their login has not failed.
#[cfg(feature = "password")]
pub(crate) fn hash_not_upgraded(subject: &str, reason: &dyn Display) {
    let event = Event::new(Kind::HashUpgraded, Level::WARN, "password hash not upgraded").because("not upgraded");
    tell(event.detail(reason).by(Who::subject(subject)));
}

/// A session went on. `again`: for a client that asked twice within the grace.
#[cfg(feature = "password")]
pub(crate) fn session_refreshed(who: Who, again: bool) {
    let event = Event::new(Kind::SessionRefreshed, Level::INFO, "session refreshed").by(who);
    tell(Event { reason: again.then_some("again within the grace"), ..event });
}

/// A refresh token opened nothing. The session is known only if it is there.
#[cfg(feature = "password")]
pub(crate) fn refresh_refused(session: Option<(&str, SessionId)>, reason: &'static str) {
    let who = session.map(|(subject, id)| Who::subject(subject).session(Some(&id))).unwrap_or_default();
    tell(Event::new(Kind::RefreshRefused, Level::INFO, "refresh refused").because(reason).by(who));
}

/// A token that was turned came again: somebody has a copy.
#[cfg(feature = "password")]
pub(crate) fn refresh_reused(subject: &str, session: SessionId) {
    let who = Who::subject(subject).session(Some(&session));
    tell(Event::new(Kind::RefreshReused, Level::WARN, "session ended: refresh token reused").by(who));
}

/// A client did not prove who it is. Its id is in the configuration, or is not told.
pub(crate) fn client_refused(client_id: Option<&str>, reason: &'static str) {
    let who = client_id.map(Who::client).unwrap_or_default();
    tell(Event::new(Kind::ClientRefused, Level::INFO, "client refused").because(reason).by(who));
}

/// A user asked for what is not theirs. `who` was let in.
#[cfg(feature = "password")]
pub(crate) fn not_theirs(who: Who, reason: &'static str) {
    context::keep_out(true);
    tell(Event::new(Kind::AuthorizationDenied, Level::INFO, "request refused").because(reason).by(who));
}

/// A client got a token in its own name.
pub(crate) fn token_issued(client_id: &str, token_id: &str) {
    tell(Event::new(Kind::TokenIssued, Level::INFO, "token issued").by(Who::client(client_id).token(Some(token_id))));
}

/// Sessions were ended: so many, or this one.
#[cfg(feature = "password")]
pub(crate) fn sessions_ended(subject: &str, session: Option<SessionId>, ended: usize, reason: &'static str) {
    let who = Who::subject(subject).session(session.as_ref().map(|id| id as &dyn Display));
    let event = Event::new(Kind::SessionsEnded, Level::INFO, "sessions ended").because(reason).by(who);
    tell(Event { count: Some(ended as u64), ..event });
}

/// An access token was called back.
pub(crate) fn token_revoked(subject: &str, token_id: &str) {
    let who = Who::subject(subject).token(Some(token_id));
    tell(Event::new(Kind::TokensRevoked, Level::INFO, "token revoked").by(who));
}

/// A login was not tried, because too many are.
#[cfg(feature = "password")]
pub(crate) fn login_shed() {
    tell(Event::new(Kind::LoginShed, Level::WARN, "login not tried").because("too many passwords are being hashed"));
}

/// A new password was accepted without the list of those that became known.
#[cfg(feature = "password")]
pub(crate) fn not_compared(reason: &dyn Display) {
    let event = Event::new(Kind::Degraded, Level::WARN, "password accepted without the list");
    let event = event.because(Undone::Comparison.code()).detail(reason);
    tell(Event { what: Some("breach list"), ..event });
}

/// Something was not done because `what` does not answer, and nobody was refused for that.
pub(crate) fn degraded(what: &'static str, undone: Undone, reason: &dyn Display) {
    let event = Event::new(Kind::Degraded, Level::ERROR, "done without").because(undone.code()).detail(reason);
    tell(Event { what: Some(what), ..event });
}

/// Something that a decision needs failed. `what` names it, `reason` is its own words.
pub(crate) fn infrastructure_failed(what: &'static str, reason: &dyn Display) {
    let event = Event::new(Kind::InfrastructureFailed, Level::ERROR, "request refused").because(what).detail(reason);
    tell(Event { what: Some(what), ..event });
}

/// For a sink that has lost events.
pub(super) fn dropped(sink: &'static str, count: u64) -> Event {
    let event = Event::new(Kind::EventsDropped, Level::ERROR, "audit events dropped");
    let event = Event { what: Some(sink), count: Some(count), ..event };
    trace(&event, Level::ERROR, None);
    event
}

/// A sink has begun to fail. Not told to sinks: this one would be asked to write that it cannot.
pub(super) fn sink_fails(sink: &'static str, reason: &dyn Display) {
    metrics::outage("audit sink", sink, true);
    metrics::event(Kind::OutageBegun.name(), None);
    let event = Event::new(Kind::OutageBegun, Level::ERROR, "outage begun").detail(reason);
    trace(&Event { what: Some("audit sink"), which: Some(sink.into()), ..event }, Level::ERROR, None);
}

/// A sink works again.
pub(super) fn sink_answers(sink: &'static str) {
    metrics::outage("audit sink", sink, false);
    metrics::event(Kind::OutageEnded.name(), None);
    let event = Event::new(Kind::OutageEnded, Level::INFO, "outage over");
    trace(&Event { what: Some("audit sink"), which: Some(sink.into()), ..event }, Level::INFO, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_that_comes_and_goes_soon_takes_no_room_that_is_reserved() {
        let outage = |what| Event { what: Some(what), ..Event::new(Kind::OutageBegun, Level::ERROR, "outage begun") };
        // Seconds may begin anew meanwhile, but not many.
        let usual = (0..1000).filter(|_| trace_bounded(&outage("a store that comes and goes"))).count();
        assert!((10..=100).contains(&usual), "{usual}");
        assert!(trace_bounded(&outage("another one")));
        let quiet = Event::new(Kind::InfrastructureFailed, Level::DEBUG, "request refused");
        assert!((0..100).all(|_| trace_bounded(&quiet)), "what is told at debug is not bounded");
    }
}
