//! Tokens of devices where somebody has signed in before (OWASP, "device cookies"). Pure but for new ids.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64_simd::{Out, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};

use crate::{
    clock::UnixSeconds,
    cookie::{self, Scripts},
    ident::LoginName,
    random,
    secret::Secret,
};

/// How the names of cookies with a device's tokens begin: `__Host-`, so that no other host and no plain HTTP can set them. Eight
/// digits follow, for each account others, so that two people who share a browser do not make each other strangers.
pub const DEVICE_COOKIE: &str = "__Host-portcullis-device-";

/// How long a device is remembered without signing in.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Cookies of an account's name that are looked at.
const MOST_COOKIES: usize = 2;
const VERSION: u8 = 1;
const TEXT: usize = 1 + ID + 8 + 1 + MAC;
const ID: usize = 16;
const MAC: usize = 32;

/// A device, for one account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DeviceId([u8; ID]);

/// How a token travels. Each has its own, so that what a cookie hides from scripts is in no body; either is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Carrier {
    Cookie = 1,
    Body = 2,
}

impl DeviceId {
    pub(super) fn random() -> Option<Self> {
        random::bytes().ok().map(Self)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; ID] {
        &self.0
    }
}

/// Makes and checks the tokens.
pub(super) struct Devices(hmac::Key);

impl Devices {
    pub(super) const fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// A token that says: on this device, this account's owner has signed in.
    pub(super) fn token(
        &self,
        account: &LoginName,
        DeviceId(id): DeviceId,
        carrier: Carrier,
        now: UnixSeconds,
    ) -> Secret<String> {
        let ends = now.saturating_add(LIFETIME).get().to_be_bytes();
        let mut token = Vec::with_capacity(TEXT);
        token.push(VERSION);
        token.extend_from_slice(&id);
        token.extend_from_slice(&ends);
        token.push(carrier as u8);
        let mac = hmac::sign(&self.0, &message(account, &token));
        token.extend_from_slice(mac.as_ref());
        Secret::new(URL_SAFE_NO_PAD.encode_to_string(&token))
    }

    /// The name of an account's cookie.
    pub(super) fn cookie(&self, account: &LoginName) -> String {
        let tag = hmac::sign(&self.0, &[b"cookie ", account.as_str().as_bytes()].concat());
        tag.as_ref().iter().take(4).fold(DEVICE_COOKIE.to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// The device that a token is of, if it is one for this account and has not run out.
    pub(super) fn check(&self, account: &LoginName, token: &str, now: UnixSeconds) -> Option<DeviceId> {
        let mut bytes = [0; TEXT];
        let fits = token.len() == (TEXT * 4).div_ceil(3);
        let bytes =
            fits.then(|| URL_SAFE_NO_PAD.decode(token.as_bytes(), Out::from_slice(&mut bytes)).ok()).flatten()?;
        let (said, mac) = bytes.split_last_chunk::<MAC>()?;
        hmac::verify(&self.0, &message(account, said), mac).ok()?;
        let (version, rest) = said.split_first()?;
        let (id, ends) = rest.split_first_chunk::<ID>()?;
        let ends = u64::from_be_bytes(*ends.first_chunk()?);
        (*version == VERSION && now.get() < ends).then_some(DeviceId(*id))
    }
}

/// What is said is of one width.
fn message(account: &LoginName, said: &[u8]) -> Vec<u8> {
    [said, account.as_str().as_bytes()].concat()
}

/// The tokens that a browser sends in cookies of this name.
pub(super) fn in_cookies<'a>(headers: &'a HeaderMap, cookie: &'a str) -> impl Iterator<Item = &'a str> {
    let values = cookie::named(headers, cookie).take(MOST_COOKIES);
    values.filter_map(|(field, at)| std::str::from_utf8(field.as_bytes().get(at)?).ok())
}

/// The field that sets it.
pub(super) fn set_cookie(cookie: &str, token: &Secret<String>) -> Option<HeaderValue> {
    cookie::set(cookie, token.expose(), LIFETIME.as_secs(), Scripts::Hidden)
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    fn devices(key: u8) -> Devices {
        Devices::new(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]))
    }

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    #[test]
    fn req_173_a_token_is_good_for_its_account_and_its_year_alone() {
        let (own, [alice, bob]) = (devices(1), ["alice", "bob"].map(|name| LoginName::parse(name).unwrap()));
        let id = DeviceId::random().unwrap();
        let token = own.token(&alice, id, Carrier::Cookie, at(1000));
        let check = |devices: &Devices, account, token: &str, now| devices.check(account, token, at(now));
        let year = LIFETIME.as_secs();
        let text = token.expose();
        assert_eq!(check(&own, &alice, text, 1000), Some(id));
        assert_eq!(check(&own, &alice, text, 1000 + year - 1), Some(id));
        let other = own.token(&alice, id, Carrier::Body, at(1000));
        assert_ne!(other.expose(), text, "what is in a cookie is in no body");
        assert_eq!(check(&own, &alice, other.expose(), 1000), Some(id));
        for (devices, account, now, why) in [
            (&own, &alice, 1000 + year, "run out"),
            (&own, &bob, 1000, "of another account"),
            (&self::devices(2), &alice, 1000, "of another server"),
        ] {
            assert_eq!(check(devices, account, text, now), None, "{why}");
        }
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(check(&own, &alice, &other, 1000), None, "changed at {at}");
        }
        for bad in ["", "x", &text[1..], &format!("{text}A"), &"é".repeat(38)] {
            assert_eq!(check(&own, &alice, bad, 1000), None, "{bad}");
        }
    }

    #[test]
    fn cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; __Host-d=1;__host-d=2; __Host-d2=6".parse().unwrap());
        headers.append(COOKIE, HeaderValue::from_bytes(b"\xff=1; __Host-d=3").unwrap());
        headers.append(COOKIE, "__Host-d=4=5; x; __Host-d=7".parse().unwrap());
        assert_eq!(in_cookies(&headers, "__Host-d").collect::<Vec<_>>(), ["1", "3"], "two at the most");
        let [alice, bob] = ["alice", "bob"].map(|name| devices(1).cookie(&LoginName::parse(name).unwrap()));
        assert!(alice != bob && alice.starts_with(DEVICE_COOKIE) && alice.len() == DEVICE_COOKIE.len() + 8, "{alice}");
        let field = set_cookie("__Host-d", &Secret::from("T")).unwrap();
        assert_eq!(field.to_str().unwrap(), "__Host-d=T; Path=/; Max-Age=31536000; Secure; HttpOnly; SameSite=Strict");
        assert!(field.is_sensitive());
    }
}
