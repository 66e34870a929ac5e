//! A list that is asked over HTTP without being told the password: by the first 20 bits of its SHA-1 (k-anonymity).

use std::{fmt, time::Duration};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use futures::FutureExt as _;
use http::header::CONTENT_ENCODING;
use zeroize::Zeroizing;

use super::{BreachFuture, BreachList, BreachListError};
use crate::{
    audit,
    config::{ConfigError, ConfigErrors},
    secret::Secret,
    uri,
};

/// Longest answer, in bytes. The longest of the original is under 100 KiB, padding included.
const MAX_BODY: usize = 256 * 1024;
/// Of the SHA-1, in hexadecimal digits: what is asked for, and what is looked for in the answer.
const PREFIX: usize = 5;
const SUFFIX: usize = 35;

/// Asks a server that speaks the range format of Have I Been Pwned's passwords. Cheap to clone.
///
/// `GET <address>/<prefix>`, where the prefix is the first five hexadecimal digits of the password's SHA-1: the server
/// learns 20 bits of a hash that hundreds of known passwords share. It asks for padding (`Add-Padding: true`), so that
/// nobody sees by an answer's length which prefix it was. Each line of the answer is `SUFFIX:COUNT`; lines with a count
/// of 0 are padding.
///
/// | setting | value |
/// |---|---|
/// | address | `https`; `http` on `localhost`, `127.0.0.1`, `[::1]` |
/// | redirects | none |
/// | answer | 256 KiB, not compressed; one malformed line spoils it |
/// | time | as [`Breaches`](super::Breaches) says, and 10 s at the most |
///
/// ```
/// use portcullis::password::{BreachClient, Breaches};
///
/// let breaches = Breaches::new(BreachClient::new("https://breaches.example/range")?);
/// # Ok::<(), portcullis::config::ConfigErrors>(())
/// ```
#[derive(Clone)]
pub struct BreachClient {
    address: String,
    http: reqwest::Client,
}

impl BreachClient {
    /// Asks below this address, which the prefix is added to: `https://api.pwnedpasswords.com/range` for the original.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ListAddress`] if it is not `https`, nor `http` on loopback by name, or has a query or a fragment;
    /// [`ConfigError::Client`] if the HTTP client cannot be set up.
    pub fn new(address: impl Into<String>) -> Result<Self, ConfigErrors> {
        let address = address.into();
        let Some(uri) = uri::fetchable(&address).filter(|uri| uri.query().is_none()) else {
            return Err(ConfigError::ListAddress(uri::without_credentials(&address)).into());
        };
        // Compression is off also where another crate has switched the features on.
        let plain = reqwest::Client::builder().no_gzip().no_brotli().no_zstd().no_deflate();
        let plain = plain.redirect(reqwest::redirect::Policy::none()).referer(false).timeout(Duration::from_secs(10));
        // The original refuses those who do not say who they are.
        let plain = plain.user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        // Nobody else is to read plain `http` to loopback.
        let http = if uri::is_https(&uri) { plain } else { plain.no_proxy() };
        let http = http.build().map_err(|error| ConfigError::Client(error.to_string()))?;
        Ok(Self { address: address.trim_end_matches('/').to_owned(), http })
    }

    async fn ask(&self, password: &Secret<String>) -> Result<bool, BreachListError> {
        let hash = hash(password.expose());
        let (prefix, suffix) = hash.split_at_checked(PREFIX).unwrap_or_default();
        // Without the address, which has the prefix in it.
        let broken = |error: reqwest::Error| BreachListError::unavailable(audit::cause(&error.without_url()));
        let request = self.http.get(format!("{}/{prefix}", self.address)).header("add-padding", "true");
        let mut response = request.send().await.map_err(broken)?;
        if response.status() != http::StatusCode::OK {
            return Err(BreachListError::unavailable(format!("answered with status {}", response.status().as_u16())));
        }
        if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(BreachListError::unavailable("answer is compressed"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(BreachListError::unavailable("answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        is_listed(&body, suffix).ok_or_else(|| BreachListError::unavailable("answer is malformed"))
    }
}

impl BreachList for BreachClient {
    fn contains<'a>(&'a self, password: &'a Secret<String>) -> BreachFuture<'a> {
        self.ask(password).boxed()
    }
}

impl fmt::Debug for BreachClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreachClient").field("address", &self.address).finish_non_exhaustive()
    }
}

/// SHA-1 in upper-case hexadecimal digits. Its weakness does not matter here: nothing relies on it, and the format
/// wants it.
fn hash(password: &str) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = Zeroizing::new(String::with_capacity(PREFIX + SUFFIX));
    for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref() {
        let digits = [byte >> 4, byte & 15].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or_default());
        text.extend(digits.map(char::from));
    }
    text
}

/// Whether the rest of a hash is in an answer, with another count than 0; `None` if the answer is none.
fn is_listed(body: &[u8], suffix: &str) -> Option<bool> {
    let mut listed = None;
    for line in body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let (hash, count) = line.split_at_checked(SUFFIX)?;
        let count = count.strip_prefix(b":").filter(|count| !count.is_empty())?;
        if !hash.iter().all(u8::is_ascii_hexdigit) || !count.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let hit = hash.eq_ignore_ascii_case(suffix.as_bytes()) && count.iter().any(|&digit| digit != b'0');
        listed = Some(listed.unwrap_or(false) || hit);
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_as_the_format_wants_them() {
        assert_eq!(*hash("password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
        assert_eq!(*hash(""), "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709");
    }

    #[test]
    fn answers() {
        const OURS: &str = "1E4C9B93F3F0682250B6CF8331B7EE68FD8";
        const OTHER: &str = "00000000000000000000000000000000000";
        for (body, expected) in [
            (format!("{OURS}:3"), Some(true)),
            (format!("{OURS}:3\r\n"), Some(true)),
            (format!("{OTHER}:1\r\n{OURS}:52256179\r\n{OTHER}:0"), Some(true)),
            (format!("{}:10\n", OURS.to_lowercase()), Some(true)),
            (format!("{OTHER}:1\r\n{OTHER}:2"), Some(false)),
            (format!("{OURS}:0\r\n{OTHER}:5"), Some(false)),
            (format!("{OURS}:00"), Some(false)),
            (format!("{OURS}:3\r\n<html>"), None),
            (format!("<html>\r\n{OURS}:3"), None),
            (format!("{OURS}:"), None),
            (format!("{OURS}:-1"), None),
            (format!("{OURS}:1.5"), None),
            (format!("{OURS} 3"), None),
            (format!("{OURS}0:3"), None),
            (OURS.to_owned(), None),
            ("{}".to_owned(), None),
            ("\r\n\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(is_listed(body.as_bytes(), OURS), expected, "{body:?}");
        }
        assert_eq!(is_listed(&[0xff; 100], OURS), None);
    }

    #[test]
    fn addresses() {
        for (address, good) in [
            ("https://breaches.example/range", true),
            ("https://breaches.example", true),
            ("http://127.0.0.1:9/range/", true),
            ("http://breaches.example/range", false),
            ("https://breaches.example/range?x=1", false),
            ("https://breaches.example/range#x", false),
            ("breaches.example", false),
        ] {
            assert_eq!(BreachClient::new(address).is_ok(), good, "{address}");
        }
    }
}
