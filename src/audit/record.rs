//! An event as a store gives it back.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::event::{Event, RequestFacts, Who, rfc3339};

/// An event that was written down, with the words that it had then: a program may read what a newer one has written.
///
/// Its JSON is that of the [`Event`]. Times are whole milliseconds, and no text has a NUL in it, which databases refuse.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EventRecord {
    /// See [`Event::id`](field@Event::id).
    pub id: String,
    /// See [`Event::time`](field@Event::time).
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// [Name](super::Kind::name) of what has happened.
    pub kind: String,
    /// See [`Event::reason`](field@Event::reason).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// See [`Event::detail`](field@Event::detail).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// See [`Event::status`](field@Event::status).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// See [`Who::issuer`](field@Who::issuer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// See [`Who::subject`](field@Who::subject).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// See [`Who::client_id`](field@Who::client_id).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// See [`Who::session`](field@Who::session).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// See [`Who::token_id`](field@Who::token_id).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// See [`Event::scope`](field@Event::scope).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// See [`Event::what`](field@Event::what).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// See [`Event::which`](field@Event::which).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub which: Option<String>,
    /// See [`Event::count`](field@Event::count).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// See [`RequestFacts::id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// See [`RequestFacts::method`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// See [`RequestFacts::path`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// See [`RequestFacts::client_ip`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
}

impl EventRecord {
    /// One of which no more is known; the rest is open, for stores to fill in.
    pub fn new(id: impl Into<String>, time: SystemTime, kind: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            time,
            kind: kind.into(),
            reason: None,
            detail: None,
            status: None,
            issuer: None,
            subject: None,
            client_id: None,
            session: None,
            token_id: None,
            scope: None,
            what: None,
            which: None,
            count: None,
            request_id: None,
            method: None,
            path: None,
            client_ip: None,
        }
    }
}

impl From<&Event> for EventRecord {
    fn from(event: &Event) -> Self {
        // Every field is named: a new one compiles only once it has a place here, and in the tables.
        let Event {
            id,
            time,
            kind,
            reason,
            detail,
            status,
            who: Who { issuer, subject, client_id, session, token_id },
            scope,
            what,
            which,
            count,
            request,
            level: _,
            message: _,
        } = event;
        let own = |text: &Option<Box<str>>| text.as_deref().map(storable);
        let (request_id, method, path, client_ip) = match request {
            Some(RequestFacts { id, method, path, client_ip }) => (Some(id), Some(method), Some(path), *client_ip),
            None => (None, None, None, None),
        };
        let of_request = |text: Option<&Box<str>>| text.map(|text| storable(text));
        Self {
            id: id.to_string(),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(millis(*time)),
            kind: kind.name().to_owned(),
            reason: reason.map(str::to_owned),
            detail: own(detail),
            status: *status,
            issuer: own(issuer),
            subject: own(subject),
            client_id: own(client_id),
            session: own(session),
            token_id: own(token_id),
            scope: own(scope),
            what: what.map(str::to_owned),
            which: own(which),
            count: *count,
            request_id: of_request(request_id),
            method: of_request(method),
            path: of_request(path),
            client_ip,
        }
    }
}

/// Texts of events have no control characters; but a sink that hands them on may have changed them.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Milliseconds since 1970: none before, where a clock is that wrong, and no more than signed integers hold.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).min(LAST)
}

/// End of the year 9999, which is the last that has four digits.
const LAST: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::audit::Kind;

    #[test]
    fn its_json_is_that_of_the_event() {
        let mut event = Event::new(Kind::AuthorizationDenied, Level::INFO, "request refused").because("policy_denied");
        let json = |event: &Event| {
            let (event, record) = (serde_json::to_string(event), serde_json::to_string(&EventRecord::from(event)));
            assert_eq!(event.unwrap(), record.unwrap());
        };
        json(&event);
        let text = |text: &str| Some(text.into());
        event.detail = text("de\u{fffd}tail \"é\" \u{1f512}");
        event.status = Some(403);
        event.who = Who {
            issuer: text("https://id.example"),
            subject: text("user:7"),
            client_id: text("app"),
            session: text("s"),
            token_id: text("t"),
        };
        (event.scope, event.what, event.which, event.count) = (text("a b"), Some("what"), text("which"), Some(7));
        let (id, method, path) = ("r".into(), "GET".into(), "/x".into());
        event.request = Some(RequestFacts { id, method, path, client_ip: Some([192, 0, 2, 1].into()) });
        json(&event);
        event.who.subject = text("a\0b");
        assert_eq!(EventRecord::from(&event).subject.as_deref(), Some("a\u{fffd}b"));
        for (time, expected) in [
            (SystemTime::UNIX_EPOCH - Duration::from_secs(1), 0),
            (SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999_999), 1),
            (SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000), LAST),
        ] {
            assert_eq!(millis(time), expected);
        }
    }
}
