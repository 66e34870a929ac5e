//! Whether a browser sent a request on behalf of another site.

mod layer;
mod site;

use std::{fmt, sync::Arc};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64_simd::{Out, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, Method, Uri};

pub use self::layer::{Csrf, CsrfLayer};
use self::site::Site;
use super::{ACCESS_COOKIE, CSRF_COOKIE, REFRESH_COOKIE};
use crate::{
    audit,
    config::{ConfigError, ConfigErrors},
    cookie,
    fetch::{WebOrigin, is_token, single},
    ident::SessionId,
    jwt::{Algorithm, hmac_key},
    random,
    rejection::Rejection,
    secret::Secret,
    session::RefreshToken,
};

/// Field in which a page repeats the token of [`CSRF_COOKIE`].
const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

const VERSION: u8 = 1;
const NONCE: usize = 16;
const MAC: usize = 32;
const TOKEN: usize = 1 + NONCE + MAC;

/// Tells requests that a browser sends on behalf of other sites. Cheap to clone.
///
/// Asked of a request, in this order; the first that has an answer gives it:
///
/// | what | passes | is refused |
/// |---|---|---|
/// | method | `GET`, `HEAD`, `OPTIONS`, but no `GET` with `Upgrade` | |
/// | `Origin` | one of the [trusted](CsrfGuardBuilder::trusted_origins), byte for byte | |
/// | `Sec-Fetch-Site` | `same-origin`, `none` | anything else |
/// | `Origin` | `https://` and the request's own host; `http://` likewise on this machine | anything else |
/// | cookies | neither [`REFRESH_COOKIE`] nor [`ACCESS_COOKIE`], nor one that the [builder](CsrfGuardBuilder::session_cookies) names | |
/// | `X-CSRF-Token` | [`CSRF_COOKIE`], made for the session of [`REFRESH_COOKIE`] | anything else, or nothing |
///
/// Where `http` is spoken to other machines, browsers send no `Sec-Fetch-Site`, and all that may change anything is refused.
///
/// ```
/// use portcullis::browser::CsrfGuard;
///
/// let guard = CsrfGuard::builder().trusted_origins(["https://app.example"]).build()?;
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct CsrfGuard(Arc<Inner>);

struct Inner {
    /// Sorted.
    trusted: Vec<WebOrigin>,
    /// Cookies that authenticate, beside our own.
    cookies: Vec<String>,
    key: hmac::Key,
}

/// Builder of a [`CsrfGuard`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CsrfGuardBuilder {
    trusted: Vec<String>,
    cookies: Vec<String>,
    secret: Option<Secret<String>>,
}

impl CsrfGuard {
    /// Begins a guard that trusts no origin but the request's own.
    pub fn builder() -> CsrfGuardBuilder {
        CsrfGuardBuilder::default()
    }

    /// Refuses a request that may be another site's: for what no layer is around, such as a handler that decides by itself.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, Method, Uri};
    /// use portcullis::browser::CsrfGuard;
    ///
    /// let guard = CsrfGuard::builder().build()?;
    /// let (uri, mut headers) = (Uri::from_static("/transfer"), HeaderMap::new());
    /// headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    /// assert!(guard.check(&Method::POST, &uri, &headers).is_err());
    /// assert!(guard.check(&Method::GET, &uri, &headers).is_ok());
    /// # Ok::<(), portcullis::config::ConfigErrors>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Rejection::CrossSite`], which is `403`.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
        if audit::is_heard() {
            let span = audit::decision!("csrf");
            let checked = span.in_scope(|| self.judge(method, uri, headers));
            audit::result(&span, &checked, |rejection| match rejection {
                Rejection::CrossSite(reason) => reason,
                other => other.code(),
            });
            return checked;
        }
        self.judge(method, uri, headers)
    }

    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
        let by_text =
            |origin: &[u8]| self.0.trusted.binary_search_by(|trusted| trusted.as_str().as_bytes().cmp(origin));
        let site = site::judge(method, uri, headers, |origin| by_text(origin).is_ok());
        match site.map_err(Rejection::CrossSite)? {
            Site::Fine => Ok(()),
            Site::Silent if !self.carries_session(headers) => Ok(()),
            // What a browser adds by itself proves nothing; what only a page of this host can read does.
            Site::Silent => self.check_token(headers).map_err(Rejection::CrossSite),
        }
    }

    /// Whether a cookie may have authenticated the request.
    fn carries_session(&self, headers: &HeaderMap) -> bool {
        let own = [REFRESH_COOKIE, ACCESS_COOKIE].into_iter();
        own.chain(self.0.cookies.iter().map(String::as_str)).any(|name| cookie::named(headers, name).next().is_some())
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let sent = single(headers, &X_CSRF_TOKEN).map_err(|_| "`X-CSRF-Token` is repeated")?;
        let sent = sent.ok_or("session cookie without `Sec-Fetch-Site`, `Origin` and `X-CSRF-Token`")?.as_bytes();
        let kept = only(headers, CSRF_COOKIE).ok_or("no token cookie, or several")?;
        verify_slices_are_equal(sent, kept).map_err(|_| "`X-CSRF-Token` is not the cookie's")?;
        let refresh = only(headers, REFRESH_COOKIE).ok_or("no refresh cookie, or several")?;
        let session = std::str::from_utf8(refresh).ok().and_then(RefreshToken::parse);
        let session = session.ok_or("refresh cookie names no session")?.session();
        if self.is_of(sent, session) { Ok(()) } else { Err("`X-CSRF-Token` is not of this session") }
    }

    /// Whether a token was made for a session.
    fn is_of(&self, token: &[u8], session: SessionId) -> bool {
        let read = || {
            let mut bytes = [0; TOKEN];
            // The length first: nothing else is worth decoding.
            let fits = token.len() == (TOKEN * 4).div_ceil(3);
            let bytes = fits.then(|| URL_SAFE_NO_PAD.decode(token, Out::from_slice(&mut bytes)).ok()).flatten()?;
            let (said, mac) = bytes.split_last_chunk::<MAC>()?;
            hmac::verify(&self.0.key, &message(said, session), mac).ok()?;
            (said.first() == Some(&VERSION)).then_some(())
        };
        read().is_some()
    }

    /// A fresh token for a session, for its cookie. `None` if the system gives no random bytes.
    #[cfg_attr(not(feature = "password"), expect(dead_code, reason = "what sets the cookie comes with passwords"))]
    pub(crate) fn token(&self, session: SessionId) -> Option<Secret<String>> {
        let mut token = Vec::with_capacity(TOKEN);
        token.push(VERSION);
        token.extend_from_slice(&random::bytes::<NONCE>().ok()?);
        let mac = hmac::sign(&self.0.key, &message(&token, session));
        token.extend_from_slice(mac.as_ref());
        Some(Secret::new(URL_SAFE_NO_PAD.encode_to_string(&token)))
    }
}

/// What is signed; each part is of one width.
fn message(said: &[u8], session: SessionId) -> Vec<u8> {
    [b"portcullis csrf", said, session.as_bytes()].concat()
}

/// The value of the one cookie of a name. A second one is somebody's who should not be able to set it.
fn only<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a [u8]> {
    let mut cookies = cookie::named(headers, name);
    let (field, at) = cookies.next()?;
    if cookies.next().is_some() { None } else { field.as_bytes().get(at) }
}

impl fmt::Debug for CsrfGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfGuard").field("trusted", &self.0.trusted).finish_non_exhaustive()
    }
}

impl CsrfGuardBuilder {
    /// Adds origins whose pages may act here, such as `https://app.example`, written as browsers send them: in lower case, without
    /// default port and without a slash at the end. Whoever can put a page there can act for whoever visits it.
    pub fn trusted_origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.trusted.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Adds names of cookies by which the program itself knows its callers. A request with one, and with neither `Sec-Fetch-Site` nor
    /// `Origin`, is refused then, unless it has the token of one of our sessions: it may be a browser of long ago.
    pub fn session_cookies<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.cookies.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the secret that tokens are made with, at least 32 random bytes, such as `openssl rand -hex 32` prints. Several machines,
    /// and restarts, need the same; unless set it is made at start.
    pub fn secret(mut self, secret: Secret<String>) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Builds the guard.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TrustedOrigin`], [`ConfigError::TrustedWildcard`] and [`ConfigError::TrustedPlaintext`] for each origin that is
    /// none, is a pattern, or is `http` of another machine; [`ConfigError::CookieName`] for each name that is none; [`ConfigError::WeakKey`] and its like for the secret;
    /// [`ConfigError::NoRandom`] if one cannot be made.
    pub fn build(self) -> Result<CsrfGuard, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut trusted: Vec<_> = self.trusted.iter().filter_map(|origin| errors.keep(parse_trusted(origin))).collect();
        trusted.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        for name in self.cookies.iter().filter(|name| !is_token(name)) {
            errors.push(ConfigError::CookieName(name.clone()));
        }
        let key = match self.secret {
            Some(secret) => hmac_key(Algorithm::Hs256, secret.expose().as_bytes()),
            None => random::bytes::<32>()
                .map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret))
                .map_err(|_| ConfigError::NoRandom),
        };
        let key = errors.keep(key);
        errors.finish(key.map(|key| CsrfGuard(Arc::new(Inner { trusted, cookies: self.cookies, key }))))
    }
}

fn parse_trusted(text: &str) -> Result<WebOrigin, ConfigError> {
    let origin =
        WebOrigin::parse(text).map_err(|fault| ConfigError::TrustedOrigin { origin: text.to_owned(), fault })?;
    if origin.wildcard {
        Err(ConfigError::TrustedWildcard(text.to_owned()))
    } else if !origin.secure && !origin.is_loopback() {
        Err(ConfigError::TrustedPlaintext(text.to_owned()))
    } else {
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::COOKIE};

    use super::*;
    use crate::config::OriginFault;

    const SECRET: &str = "0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210";

    /// Cookie fields, token fields, and what becomes of them.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Result<(), &'static str>);

    fn guard() -> CsrfGuard {
        CsrfGuard::builder()
            .trusted_origins(["https://app.example"])
            .session_cookies(["sid"])
            .secret(SECRET.into())
            .build()
            .unwrap()
    }

    /// A refresh token, and a token that pages repeat.
    fn session(guard: &CsrfGuard) -> (String, String) {
        let refresh = RefreshToken::random(SessionId::random().unwrap()).unwrap();
        (refresh.expose().to_string(), guard.token(refresh.session()).unwrap().expose().clone())
    }

    fn check(guard: &CsrfGuard, cookies: &[&str], tokens: &[&str]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, texts) in [(COOKIE, cookies), (X_CSRF_TOKEN, tokens)] {
            for text in texts {
                headers.append(&name, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            }
        }
        guard.check(&Method::POST, &Uri::from_static("/"), &headers).map_err(|rejection| match rejection {
            Rejection::CrossSite(reason) => reason,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn req_157_req_158_a_session_without_an_origin_needs_its_own_token() {
        let guard = guard();
        let ((refresh, token), (other_refresh, other_token)) = (session(&guard), session(&guard));
        let of = |name: &str, value: &str| format!("{name}={value}");
        let (r, c, a) = (of(REFRESH_COOKIE, &refresh), of(CSRF_COOKIE, &token), of(ACCESS_COOKIE, "abc"));
        let other_r = of(REFRESH_COOKIE, &other_refresh);
        let other_c = of(CSRF_COOKIE, &other_token);
        let foreign = CsrfGuard::builder().build().unwrap();
        let foreign = foreign.token(RefreshToken::parse(&refresh).unwrap().session()).unwrap().expose().clone();
        let foreign_c = of(CSRF_COOKIE, &foreign);
        let (absent, repeated) = (
            Err("session cookie without `Sec-Fetch-Site`, `Origin` and `X-CSRF-Token`"),
            Err("`X-CSRF-Token` is repeated"),
        );
        let (unkept, unequal) = (Err("no token cookie, or several"), Err("`X-CSRF-Token` is not the cookie's"));
        let (refreshes, nameless) = (Err("no refresh cookie, or several"), Err("refresh cookie names no session"));
        let unbound = Err("`X-CSRF-Token` is not of this session");
        let rows: &[Row<'_>] = &[
            (&[], &[], Ok(())),
            (&[], &["x"], Ok(())),
            (&["theme=dark"], &[], Ok(())),
            (&[&c], &[], Ok(())),
            (&["sid=abc"], &[], absent),
            (&["sid2=abc; SID=x"], &[], Ok(())),
            (&["sid=abc", &r, &c], &[&token], Ok(())),
            (&["__Host-portcullis-refreshed=x; portcullis-refresh=y; __host-portcullis-refresh=z"], &[], Ok(())),
            (&[&r, &c], &[&token], Ok(())),
            (&[&r, &c, &a], &[&token], Ok(())),
            (&[&format!("theme=dark; {r}; {c}")], &[&token], Ok(())),
            (&[&r], &[], absent),
            (&[&a], &[], absent),
            (&[&r, &c], &[], absent),
            (&["__Host-portcullis-refresh="], &[], absent),
            (&["__Host-portcullis-access="], &[], absent),
            (&[&r, &c], &[&token, &token], repeated),
            (&[&r], &[&token], unkept),
            (&[&r, &c, &c], &[&token], unkept),
            (&[&r, &c, &other_c], &[&token], unkept),
            (&[&r, &c], &[""], unequal),
            (&[&r, &c], &[&token[1..]], unequal),
            (&[&r, &c], &[&other_token], unequal),
            (&[&r, &c], &["caf\u{e9}"], unequal),
            (&[&c, &a], &[&token], refreshes),
            (&[&r, &r, &c], &[&token], refreshes),
            (&[&r, &other_r, &c], &[&token], refreshes),
            (&[&c, "__Host-portcullis-refresh=abc"], &[&token], nameless),
            (&[&c, "__Host-portcullis-refresh=\u{e9}"], &[&token], nameless),
            (&[&r, &other_c], &[&other_token], unbound),
            (&[&other_r, &c], &[&token], unbound),
            (&[&r, &foreign_c], &[&foreign], unbound),
            (&[&r, "__Host-portcullis-csrf="], &[""], unbound),
            (&[&r, "__Host-portcullis-csrf=x"], &["x"], unbound),
            (&[&r, "__Host-portcullis-csrf=\u{e9}"], &["\u{e9}"], unbound),
        ];
        for (cookies, tokens, expected) in rows {
            assert_eq!(check(&guard, cookies, tokens), *expected, "{cookies:?} {tokens:?}");
        }
    }

    #[test]
    fn req_158_a_token_has_one_text_and_each_is_another() {
        let guard = guard();
        let (refresh, token) = session(&guard);
        let id = RefreshToken::parse(&refresh).unwrap().session();
        assert!(guard.is_of(token.as_bytes(), id) && token.len() == 66);
        for at in 0..token.len() {
            for byte in (0..=u8::MAX).filter(|byte| *byte != token.as_bytes()[at]) {
                let mut other = token.clone().into_bytes();
                other[at] = byte;
                assert!(!guard.is_of(&other, id), "{byte} at {at}");
            }
        }
        for other in [&token[..65], &format!("{token}A"), &format!("{token}==")] {
            assert!(!guard.is_of(other.as_bytes(), id), "{other}");
        }
        assert_ne!(*guard.token(id).unwrap().expose(), token);
        // Another machine with the same secret.
        assert!(self::guard().is_of(token.as_bytes(), id));
    }

    #[test]
    fn tokens_are_made_with_a_secret_that_no_print_shows() {
        let builder = CsrfGuard::builder().secret(SECRET.into());
        assert!(!format!("{builder:?} {:?}", builder.clone().build().unwrap()).contains(&SECRET[..8]));
    }

    #[test]
    fn all_that_is_wrong_with_a_guard_is_told_at_once() {
        let good = ["https://app.example", "https://app.example:8443", "http://localhost:3000", "http://[::1]:80808"];
        assert!(CsrfGuard::builder().trusted_origins(good.into_iter().take(3)).build().is_ok());
        let faulty = |origin: &str, fault| ConfigError::TrustedOrigin { origin: origin.to_owned(), fault };
        let expected = [
            faulty("http://[::1]:80808", OriginFault::Port),
            faulty("", OriginFault::Empty),
            faulty("null", OriginFault::Null),
            faulty("*", OriginFault::Scheme),
            faulty("https://app.example/", OriginFault::Path),
            faulty("https://app.example:443", OriginFault::DefaultPort),
            faulty("https://App.example", OriginFault::UpperCase),
            faulty("https://*.co.uk", OriginFault::PublicSuffix),
            ConfigError::TrustedWildcard("https://*.app.example".to_owned()),
            ConfigError::TrustedPlaintext("http://app.example".to_owned()),
            ConfigError::CookieName("sid=".to_owned()),
            ConfigError::CookieName(String::new()),
            ConfigError::WeakKey { algorithm: Algorithm::Hs256, bits: 40, least: 256 },
        ];
        let errors = CsrfGuard::builder()
            .trusted_origins(good)
            .trusted_origins(["", "null", "*", "https://app.example/", "https://app.example:443"])
            .trusted_origins(["https://App.example", "https://*.co.uk", "https://*.app.example", "http://app.example"])
            .session_cookies(["sid", "sid=", ""])
            .secret("weak!".into())
            .build()
            .unwrap_err();
        assert_eq!(errors.iter().cloned().collect::<Vec<_>>(), expected);
        let told = errors.to_string();
        assert!(told.contains("trusted origin \"https://app.example/\" has a path"), "{told}");
    }
}
