//! One event: who, what, where, when.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::StatusCode;
use serde::{Serialize, Serializer};
use tracing::Level;

use super::kind::Kind;
use crate::random;

/// Longest text in an event, in bytes. What is longer is cut, and ends with `…`.
pub(crate) const MOST_TEXT: usize = 256;

/// What has happened. Each of its texts is at most 260 bytes, none is a credential, and characters in them that begin a
/// line or turn the direction of writing are replaced.
///
/// Its JSON, and the names of the fields, never change; fields may be added. Those that are not known are left out.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Its own name, another one for each event.
    pub id: EventId,
    /// When it happened, in JSON as RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What has happened.
    pub kind: Kind,
    /// Why, in words that stay the same: of refused requests, [`Rejection::code`](crate::rejection::Rejection::code).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
    /// Status of the answer to the request that the event is about. Where the event says by itself that a request was refused, what
    /// that is over HTTP, even if gRPC has been answered as gRPC is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who acted, as far as that was proved.
    #[serde(flatten)]
    pub who: Who,
    /// What the caller would have needed: scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Box<str>>,
    /// What failed, or was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<&'static str>,
    /// Which of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub which: Option<Box<str>>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The request that the event is about, where an [`AuditLayer`](super::AuditLayer) stands around what decided.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestFacts>,
    /// How loud it is told.
    #[serde(skip)]
    pub(super) level: Level,
    /// It in a few words, always the same for a kind.
    #[serde(skip)]
    pub(super) message: &'static str,
}

impl Event {
    pub(crate) fn new(kind: Kind, level: Level, message: &'static str) -> Self {
        Self {
            id: EventId::next(),
            time: SystemTime::now(),
            kind,
            reason: None,
            detail: None,
            status: None,
            who: Who::default(),
            scope: None,
            what: None,
            which: None,
            count: None,
            request: None,
            level,
            message,
        }
    }

    pub(super) fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(super) fn detail(self, detail: &dyn fmt::Display) -> Self {
        Self { detail: Some(bounded(&detail.to_string())), ..self }
    }

    pub(super) fn by(self, who: Who) -> Self {
        Self { who, ..self }
    }

    /// With the status of the answer, unless it has one.
    pub(super) fn answered(self, status: Option<StatusCode>) -> Self {
        Self { status: self.status.or(status.map(|status| status.as_u16())), ..self }
    }

    /// What failed, and how the request was refused for it. The failure's own words stay.
    pub(super) fn refused_as(&mut self, refusal: Self) {
        let Self { reason, status, who, scope, .. } = refusal;
        (self.reason, self.status, self.who, self.scope) = (reason, status, who, scope);
    }

    /// How loud it is told, where it is told at all.
    pub const fn level(&self) -> Level {
        self.level
    }
}

/// Who acted, in the words of the credential or the store.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Who {
    /// Who vouches for the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Box<str>>,
    /// Who acted, in the issuer's namespace: `user:<id>`, never a login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<str>>,
    /// The client that acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Box<str>>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<str>>,
    /// The access token's own id (`jti`): its name, which opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Box<str>>,
}

impl Who {
    pub(crate) fn subject(subject: &str) -> Self {
        Self { subject: Some(bounded(subject)), ..Self::default() }
    }

    pub(crate) fn client(client_id: &str) -> Self {
        Self { client_id: Some(bounded(client_id)), ..Self::default() }
    }

    pub(crate) fn issuer(self, issuer: &str) -> Self {
        Self { issuer: Some(bounded(issuer)), ..self }
    }

    pub(crate) fn of_client(self, client_id: Option<&str>) -> Self {
        Self { client_id: client_id.map(bounded), ..self }
    }

    pub(crate) fn session(self, session: Option<&dyn fmt::Display>) -> Self {
        Self { session: session.map(|session| bounded(&session.to_string())), ..self }
    }

    pub(crate) fn token(self, token_id: Option<&str>) -> Self {
        Self { token_id: token_id.map(bounded), ..self }
    }
}

/// The request that an event is about. All of it was chosen by the client but the address.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RequestFacts {
    /// Its `x-request-id`, if that is 1 to 64 letters, digits and `-._~`; else one that was made here.
    #[serde(rename = "request_id")]
    pub id: Box<str>,
    /// Its method.
    pub method: Box<str>,
    /// Its path as it came, without the query, which may hold secrets.
    pub path: Box<str>,
    /// Where it came from: see [`ClientIp`](crate::client_ip::ClientIp).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
}

/// Name of an event: 32 hexadecimal digits. The first half is the process's, the second counts up.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId(u64, u64);

impl EventId {
    pub(super) fn next() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(1);
        // Not a secret: without randomness, the time at which the process began to tell takes its place.
        let process = PROCESS.get_or_init(|| random::bytes().map_or_else(|_| since_1970(), u64::from_ne_bytes));
        Self(*process, COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

fn since_1970() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// Whether a character begins a line, or changes where others are shown: controls, and what Unicode has for lines and directions.
fn moves_others(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text`, cut to what an event may hold, and without characters that could begin a line of their own.
pub(crate) fn bounded(text: &str) -> Box<str> {
    let clean = text.len() <= MOST_TEXT && !text.chars().any(moves_others);
    if clean {
        return text.into();
    }
    let mut kept = String::with_capacity(MOST_TEXT + 4);
    for character in text.chars() {
        if kept.len() + character.len_utf8() > MOST_TEXT {
            kept.push('…');
            break;
        }
        kept.push(if moves_others(character) { char::REPLACEMENT_CHARACTER } else { character });
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn texts_are_bounded_and_begin_no_line() {
        for (text, expected) in [
            ("", String::new()),
            ("alice", "alice".to_owned()),
            ("a\r\nkind=login_succeeded", "a\u{fffd}\u{fffd}kind=login_succeeded".to_owned()),
            ("a\0b\u{85}\u{1b}[31m", "a\u{fffd}b\u{fffd}\u{fffd}[31m".to_owned()),
            ("a\u{2028}b\u{2029}c\u{202e}d\u{2066}e", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e".to_owned()),
            (&"x".repeat(MOST_TEXT), "x".repeat(MOST_TEXT)),
            (&"x".repeat(MOST_TEXT + 1), format!("{}…", "x".repeat(MOST_TEXT))),
            (&"é".repeat(MOST_TEXT), format!("{}…", "é".repeat(MOST_TEXT / 2))),
        ] {
            assert_eq!(*bounded(text), *expected, "{text:?}");
            assert!(bounded(text).len() <= 260);
        }
    }

    #[test]
    fn json_has_what_is_known_and_nothing_else() {
        let mut event = Event::new(Kind::LoginFailed, Level::INFO, "login failed").because("wrong password");
        event.id = EventId(1, 2);
        event.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_126_000_123);
        let least = r#"{"id":"00000000000000010000000000000002","time":"2025-11-26T03:00:00.123Z","kind":"login_failed","reason":"wrong password"}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), least);
        event.who = Who::subject("user:7").issuer("https://id.example").token(Some("t"));
        event.request = Some(RequestFacts {
            id: "r".into(),
            method: "POST".into(),
            path: "/token".into(),
            client_ip: Some([192, 0, 2, 1].into()),
        });
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["subject"], "user:7");
        assert_eq!((&json["request_id"], &json["client_ip"]), (&"r".into(), &"192.0.2.1".into()));
    }
}
