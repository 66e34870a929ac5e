//! The decision: which credential does a request carry that may have it in a cookie?

mod layer;

use http::{HeaderMap, Request, Uri, header::AUTHORIZATION};

pub use self::layer::{CookieExtract, CookieExtractLayer, CookieFinish};
use super::{ACCESS_COOKIE, CsrfGuard};
use crate::{
    bearer::{self, BearerToken, Credential},
    cookie,
    rejection::Rejection,
};

/// Where a credential may be.
#[derive(Clone, Debug)]
enum Source {
    /// In the cookie, whose requests the guard has to let pass.
    Cookie(CsrfGuard),
    /// There, or in the header where there is no cookie.
    Either(CsrfGuard),
    /// In the header alone.
    Header,
}

impl Source {
    /// Reads the credential, and tells whether the cookie is what it was looked for in.
    fn read<B>(&self, request: &Request<B>, optional: bool) -> (Result<Credential, Rejection>, bool) {
        let (headers, uri) = (request.headers(), request.uri());
        let carries = || cookie::named(headers, ACCESS_COOKIE).next().is_some();
        let (token, by_cookie) = match self {
            Self::Cookie(guard) | Self::Either(guard) if carries() => {
                // First of all: another site is not to learn from the answer what the cookie is like.
                let checked = guard.check(request.method(), uri, headers);
                (checked.and_then(|()| read_cookie(headers, uri)), true)
            }
            Self::Cookie(_) => (Err(Rejection::NoCredential), false),
            Self::Either(_) | Self::Header => (bearer::read(headers, uri), false),
        };
        let credential = match token {
            Ok(token) => Ok(Credential::Bearer(token)),
            Err(Rejection::NoCredential | Rejection::OtherScheme) if optional => Ok(Credential::Absent),
            Err(rejection) => Err(rejection),
        };
        (credential, by_cookie)
    }
}

/// The one token in the cookies of a request, which has at least one.
fn read_cookie(headers: &HeaderMap, uri: &Uri) -> Result<BearerToken, Rejection> {
    let mut cookies = cookie::named(headers, ACCESS_COOKIE);
    let (field, at) = cookies.next().ok_or(Rejection::NoCredential)?;
    // RFC 6750 §2: one way only. A field of another scheme is another way.
    if cookies.next().is_some() || headers.contains_key(AUTHORIZATION) || bearer::in_query(uri) {
        return Err(Rejection::RepeatedCredential);
    }
    BearerToken::within(field, at).ok_or(Rejection::MalformedCredential)
}
