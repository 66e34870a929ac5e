//! Addresses: as identifiers, compared byte for byte and never fetched, and those that may be fetched from.

#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
use http::{Uri, uri::Scheme};

/// Longest identifier, in bytes.
pub(crate) const MOST: usize = 1024;

/// Whether `text` is an absolute URI without fragment (RFC 3986 §4.3; RFC 8707 §2 asks for it).
pub(crate) fn is_absolute(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_fits = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    scheme_fits && !rest.is_empty() && text.len() <= MOST && rest.bytes().all(plain)
}

/// An `https` address, or `http` on loopback, without query and fragment: what metadata can be found below.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    text: String,
    /// Where the path begins.
    path: usize,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, true),
            _ => (authority, false),
        };
        let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let fits = is_absolute(text) && !host.is_empty() && !text.contains(['?', '@']) && (secure || loopback);
        // A colon without a port, or within an address without brackets.
        let fits = fits && (port || !host.contains(':') || host.ends_with(']'));
        // Routers give these a meaning of their own.
        let fits = fits && !text.contains(['*']) && !rest.contains("/:");
        fits.then(|| Self { text: text.to_owned(), path: text.len() - rest.len() + authority.len() })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The path, without a slash at its end; empty for the root.
    pub(crate) fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default().trim_end_matches('/')
    }

    /// Path of what is well known about it: the name goes between host and path (RFC 8414 §3.1, RFC 9728 §3.1).
    pub(crate) fn well_known_path(&self, name: &str) -> String {
        format!("/.well-known/{name}{}", self.path())
    }

    /// The same as an address.
    pub(crate) fn well_known(&self, name: &str) -> String {
        format!("{}{}", self.text.get(..self.path).unwrap_or_default(), self.well_known_path(name))
    }

    /// The address of an endpoint below it.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.text.trim_end_matches('/'))
    }
}

/// An address that may be fetched from: `https`, or `http` on loopback by name.
#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
pub(crate) fn fetchable(address: &str) -> Option<Uri> {
    let uri: Uri = address.parse().ok()?;
    let loopback = matches!(uri.host()?, "localhost" | "127.0.0.1" | "[::1]");
    let scheme = uri.scheme()?;
    let plain = !address.contains(['#', '@']);
    (plain && (is_https(&uri) || (*scheme == Scheme::HTTP && loopback))).then_some(uri)
}

/// An address as it may be told, in errors as well: without a name and a password in it, be it malformed as it likes.
#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
pub(crate) fn without_credentials(address: &str) -> String {
    let Some((before, place)) = address.rsplit_once('@') else { return address.to_owned() };
    let scheme = before.split_inclusive("//").next().filter(|scheme| scheme.ends_with("//")).unwrap_or_default();
    format!("{scheme}…@{place}")
}

#[cfg(any(feature = "breach-client", feature = "jwks-client"))]
pub(crate) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "breach-client", feature = "jwks-client"))]
    #[test]
    fn an_address_is_told_without_credentials() {
        for (address, told) in [
            ("https://id.example/keys", "https://id.example/keys"),
            ("https://app:pa//ss@w@id.example/keys", "https://…@id.example/keys"),
            ("app:pass@id.example", "…@id.example"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(address), told);
        }
    }

    #[test]
    fn req_103_absolute_uris() {
        for (text, good) in [
            ("https://tool.example/mcp", true),
            ("https://tool.example", true),
            ("https://tool.example/?a=b", true),
            ("urn:example:orders", true),
            ("x-app+1.2:/a", true),
            ("https://tool.example/#", false),
            ("https://tool.example/#part", false),
            ("tool.example", false),
            ("/mcp", false),
            ("//tool.example", false),
            ("orders", false),
            ("", false),
            (":", false),
            ("https:", false),
            ("1a:b", false),
            ("https://tool.example/ b", false),
            ("https://tool.example/\u{e9}", false),
            ("https://tool.example/\"", false),
            (&format!("urn:{}", "x".repeat(MOST)), false),
        ] {
            assert_eq!(is_absolute(text), good, "{text}");
        }
    }

    #[test]
    fn req_126_req_127_what_is_well_known_stands_between_host_and_path() {
        for (text, expected) in [
            ("https://id.example", "https://id.example/.well-known/x"),
            ("https://id.example/", "https://id.example/.well-known/x"),
            ("https://id.example/a/b", "https://id.example/.well-known/x/a/b"),
            ("https://id.example/a/", "https://id.example/.well-known/x/a"),
            ("https://id.example:8443/a", "https://id.example:8443/.well-known/x/a"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/.well-known/x"),
            ("http://localhost/a", "http://localhost/.well-known/x/a"),
            ("http://[::1]:1/a", "http://[::1]:1/.well-known/x/a"),
        ] {
            assert_eq!(Place::parse(text).unwrap().well_known("x"), expected);
        }
        for bad in [
            "http://id.example",
            "http://127.0.0.1.id.example",
            "http://localhost@id.example",
            "https://",
            "https:///a",
            "https://:80",
            "https://id.example?a",
            "https://id.example#a",
            "https://a@id.example",
            "https://id.example:",
            "https://id.example:x",
            "ftp://id.example",
            "id.example",
            "HTTPS://id.example",
            "https://id.example/:a",
            "https://id.example/*a",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
        assert_eq!(Place::parse("https://id.example/a/").unwrap().below("/token"), "https://id.example/a/token");
    }

    #[cfg(any(feature = "breach-client", feature = "jwks-client"))]
    #[test]
    fn addresses_that_may_be_fetched_from() {
        for (address, good) in [
            ("https://id.example/keys", true),
            ("https://id.example:8443", true),
            ("http://127.0.0.1:9/keys", true),
            ("http://localhost/keys", true),
            ("http://[::1]:9/keys", true),
            ("http://id.example/keys", false),
            ("http://127.0.0.1.evil.example/", false),
            ("http://localhost.evil.example/", false),
            ("http://localhost@evil.example/", false),
            ("https://user@id.example/", false),
            ("https://id.example/#x", false),
            ("ftp://id.example/", false),
            ("file:///etc/passwd", false),
            ("id.example", false),
            ("/keys", false),
            ("", false),
        ] {
            assert_eq!(fetchable(address).is_some(), good, "{address}");
        }
    }
}
