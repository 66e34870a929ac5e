//! Fuzz targets. `cargo test --release` runs each for `BOLERO_RANDOM_TEST_TIME_MS` on random input; with cargo-bolero,
//! `cargo bolero test NAME` is guided by coverage.
//!
//! Signatures are real: the targets know the key and sign what they make up, so that the code behind the signature check
//! is reached with nothing stubbed out.
#![cfg(test)]

mod browsers;
mod explain;

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bolero::check;
use jsonwebtoken as jwt;
use portcullis::{
    clock::UnixSeconds,
    jwt::{Algorithm, ClaimsPolicy, KeySet, Verifier, VerifyingKey},
};

const SECRET: &[u8] = b"0123456789abcdefghijklmnopqrstuv";
const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt","kid":"k"}"#;

/// Claims that are good for a minute around `now`.
fn claims(now: u64) -> String {
    format!(
        r#"{{"iss":"i","aud":["a","b"],"sub":"user:7","client_id":"c","jti":"j","iat":{now},"nbf":{now},"exp":{},"scope":"me items","x":{{"y":[1.5,null,true,"\u00e9"]}}}}"#,
        now + 60
    )
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn token(header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = VerifyingKey::hmac(Algorithm::Hs256, SECRET).unwrap().with_kid("k");
    Verifier::new(ClaimsPolicy::builder("i", "a").build().unwrap(), KeySet::new([key]).unwrap())
});

static PEER: LazyLock<(jwt::DecodingKey, jwt::Validation)> = LazyLock::new(|| {
    let mut validation = jwt::Validation::new(jwt::Algorithm::HS256);
    validation.set_audience(&["a"]);
    validation.set_issuer(&["i"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = 30;
    (jwt::DecodingKey::from_secret(SECRET), validation)
});

fn accepts(token: &str, now: u64) -> bool {
    VERIFIER.verify_at(token.as_bytes(), UnixSeconds::new(now)).is_ok()
}

#[test]
fn tokens() {
    check!().for_each(|bytes: &[u8]| {
        assert!(VERIFIER.verify_at(bytes, UnixSeconds::new(1_800_000_000)).is_err());
    });
}

#[test]
fn headers() {
    let now = now();
    check!().for_each(|header: &[u8]| {
        let _ = accepts(&token(header, claims(now).as_bytes()), now);
    });
}

#[test]
fn payloads() {
    let now = now();
    check!().for_each(|payload: &[u8]| {
        assert!(!accepts(&token(HEADER.as_bytes(), payload), now), "no random bytes are good claims");
    });
}

#[test]
fn jwk_sets() {
    let good = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","use":"sig","alg":"EdDSA"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#;
    check!().with_type::<Vec<(u16, Change)>>().for_each(|changes| {
        let _ = KeySet::from_jwks(&changed(good, changes));
    });
    check!().for_each(|bytes: &[u8]| drop(KeySet::from_jwks(bytes)));
}

/// Something done to a text at a place.
#[derive(Clone, Debug, bolero::TypeGenerator)]
enum Change {
    Replace(u8),
    Insert(u8),
    Delete,
    /// One of the pieces that matter to a parser.
    Piece(u8),
    /// A stretch that stands elsewhere in the text.
    Copy(u16, u8),
    /// One of the members, where a member may begin.
    Member(u8),
    /// One of the values, in place of another.
    Value(u8),
}

const MEMBERS: &[&str] = &[
    "\"exp\":1,",
    "\"sub\":\"\",",
    "\"crit\":[\"exp\"],",
    "\"b64\":true,",
    "\"zip\":\"DEF\",",
    "\"jku\":1,",
    "\"x5c\":[\"AA\"],",
    "\"x5t\":7,",
    "\"jwk\":{},",
    "\"typ\":\"JWT\",",
    "\"alg\":\"none\",",
    "\"\":0,",
    "\"sid\":\"s\",",
    "\"sid\":1,",
    "\"auth_time\":1,",
    "\"auth_time\":\"1\",",
    "\"\\u0061ud\":\"a\",",
    "\"\\u0065xp\":1,",
    "\"y\":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]],",
    "\"y\":1e999,",
    "\"y\":{\"z\":1,\"z\":2},",
    "\"y\":\"\\ud83d\\ude00\",",
    "\"y\":\"\\ud800\",",
    "\"scp\":[\"a\"],",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "-0.5",
    "1.5",
    "1e3",
    "1e999",
    "1893456000",
    "1893456000.5",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551616",
    "\"\"",
    "\"a\"",
    "\"i\"",
    "\"\\u0069\"",
    "[]",
    "[\"a\"]",
    "[\"i\"]",
    "[1]",
    "{}",
    "\"k\"",
    "\"HS256\"",
    "\"AT+JWT\"",
    "\"application/at+jwt\"",
    "\"JWT\"",
    "\"a b\"",
    "\"a  b\"",
    "\"\\\"\"",
    "[\"b\",\"a\"]",
    "\"é\"",
];

/// Places behind a byte of `after`.
fn places(bytes: &[u8], after: &[u8]) -> Vec<usize> {
    bytes.iter().enumerate().filter(|(_, byte)| after.contains(byte)).map(|(at, _)| at + 1).collect()
}

const PIECES: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "1.5",
    "9007199254740993",
    "\\u0061",
    "\\ud800",
    "\"exp\":1,",
    "\"sub\":\"\",",
    "\"crit\":[\"exp\"],",
    "\"b64\":false,",
    "\"zip\":\"DEF\",",
    "\"jku\":1,",
    "\"typ\":\"JWT\",",
    "\"alg\":\"none\",",
    "\"x5c\":[\"AA\"],",
    "[[[[[[[[[[[[[[[[[",
    "\u{feff}",
    " ",
    "\n",
    "\u{1}",
    "\"\":0,",
    "\"scope\":\"a  b\",",
    "\"aud\":\"a\",",
    "\"kid\":\"k\",",
];

fn changed(text: &str, changes: &[(u16, Change)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    // None, one or two: more would leave nothing to read.
    let count = changes.first().map_or(0, |(at, _)| at % 3);
    for (at, change) in changes.iter().take(count.into()) {
        let at = usize::from(*at) % (bytes.len() + 1);
        match change {
            Change::Replace(byte) => {
                if let Some(old) = bytes.get_mut(at) {
                    *old = *byte;
                }
            }
            Change::Insert(byte) => bytes.insert(at, *byte),
            Change::Delete => {
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
            Change::Piece(piece) => {
                let piece = PIECES[usize::from(*piece) % PIECES.len()];
                bytes.splice(at..at, piece.bytes());
            }
            Change::Copy(from, length) => {
                let from = usize::from(*from) % (bytes.len() + 1);
                let piece = bytes[from..bytes.len().min(from + usize::from(*length))].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Member(member) => {
                let places = places(&bytes, b"{,");
                if let Some(place) = places.get(at.checked_rem(places.len()).unwrap_or_default()) {
                    bytes.splice(place..place, MEMBERS[usize::from(*member) % MEMBERS.len()].bytes());
                }
            }
            Change::Value(value) => {
                let places = places(&bytes, b":");
                if let Some(place) = places.get(at.checked_rem(places.len()).unwrap_or_default()) {
                    let end =
                        bytes[*place..].iter().position(|byte| b",}".contains(byte)).map_or(bytes.len(), |n| place + n);
                    bytes.splice(place..&end, VALUES[usize::from(*value) % VALUES.len()].bytes());
                }
            }
        }
    }
    bytes
}

/// Whatever `jsonwebtoken` accepts and we refuse, or the other way round, is explained by a rule of [`explain`].
#[test]
fn verdicts_differ_from_jsonwebtoken_only_by_rule() {
    check!().with_type::<(Vec<(u16, Change)>, Vec<(u16, Change)>)>().for_each(|(header, payload)| {
        // Read for each, because the peer reads the clock by itself.
        let now = now();
        let (header, payload) = (changed(HEADER, header), changed(&claims(now), payload));
        let token = token(&header, &payload);
        let ours = VERIFIER.verify_at(token.as_bytes(), UnixSeconds::new(now));
        let theirs = jwt::decode::<serde_json::Value>(&token, &PEER.0, &PEER.1);
        let case = usize::from(ours.is_ok()) * 2 + usize::from(theirs.is_ok());
        SEEN[case].fetch_add(1, Ordering::Relaxed);
        let rule = match (&ours, &theirs) {
            (Err(_), Ok(_)) => explain::refusal(&header, &payload, now),
            (Ok(_), Err(_)) => explain::acceptance(&header, &payload),
            _ => return,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(rule.is_some(), "{} {}\nours {ours:?}\ntheirs {theirs:?}", text(&header), text(&payload));
    });
    let [neither, theirs, ours, both] = SEEN.each_ref().map(|seen| seen.load(Ordering::Relaxed));
    println!("accepted by neither {neither}, by jsonwebtoken alone {theirs}, by us alone {ours}, by both {both}");
    assert!(neither > 0 && theirs > 0 && both > 0, "the changes reach every kind of verdict");
}

/// Runs by verdict: ours counts two, theirs one.
static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
