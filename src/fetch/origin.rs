//! Origins as browsers write them (HTML, "ASCII serialisation of an origin"), read from a configuration.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest domain name, in bytes (RFC 1035 §2.3.4).
pub(crate) const MOST_HOST: usize = 253;

/// What is wrong with an origin in a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginFault {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It is `null`, which sandboxed frames, files and redirects of anybody's have.
    #[error("is `null`, which anybody's sandboxed frame has")]
    Null,
    /// It does not begin with `https://` or `http://`.
    #[error("does not begin with https:// or http://")]
    Scheme,
    /// It has a name or a password before the host.
    #[error("has a user name before the host")]
    UserInfo,
    /// It has a path, if only a slash.
    #[error("has a path; an origin ends with its host or port, without a slash")]
    Path,
    /// It has a query or a fragment.
    #[error("has a query or a fragment")]
    Query,
    /// It has upper-case letters, which browsers do not send.
    #[error("has upper-case letters; browsers send lower case")]
    UpperCase,
    /// It has letters beyond ASCII, which browsers send in Punycode.
    #[error("has letters beyond ASCII; browsers send Punycode, such as xn--bcher-kva.example")]
    Unicode,
    /// The host is no domain name.
    #[error("has no host, or one that is no domain name")]
    Host,
    /// The host is an address that browsers write in another way.
    #[error("has an IP address in a form that browsers do not send")]
    Address,
    /// The port is the scheme's own, which browsers leave out.
    #[error("has the default port of its scheme, which browsers leave out")]
    DefaultPort,
    /// The port is no number from 1 to 65535 without leading zeros.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
    /// An asterisk stands elsewhere than for whole labels in front, as in `https://*.example.com`.
    #[error("has a wildcard elsewhere than in front, as in https://*.example.com")]
    Wildcard,
    /// A wildcard stands before a public suffix, under which strangers register names.
    #[error("has a wildcard over a public suffix, under which anybody can have a name")]
    PublicSuffix,
    /// A wildcard over `http` names: whoever is on the network can be any of them.
    #[error("has a wildcard over http names; whoever is on the network can be any of them")]
    PlaintextWildcard,
}

/// An origin, or a pattern of origins: every name below a domain.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct WebOrigin {
    text: String,
    pub(crate) secure: bool,
    /// Whether it is every name below `text`'s host, which then begins with `.`.
    pub(crate) wildcard: bool,
    host: (usize, usize),
}

impl WebOrigin {
    /// Reads an origin that browsers could send, or a pattern `https://*.example.com` of them.
    pub(crate) fn parse(text: &str) -> Result<Self, OriginFault> {
        if text.is_empty() {
            return Err(OriginFault::Empty);
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(OriginFault::Null);
        }
        if !text.is_ascii() {
            return Err(OriginFault::Unicode);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(OriginFault::UpperCase);
        }
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(OriginFault::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(OriginFault::Query);
        }
        if rest.contains(['/', '\\']) {
            return Err(OriginFault::Path);
        }
        if rest.contains('@') {
            return Err(OriginFault::UserInfo);
        }
        let (host, port) = split_port(rest)?;
        let start = text.len() - rest.len();
        let Some(below) = host.strip_prefix('*') else {
            if host.contains('*') || port.is_some_and(|port| port.contains('*')) {
                return Err(OriginFault::Wildcard);
            }
            check_host(host)?;
            check_port(secure, port)?;
            return Ok(Self { text: text.to_owned(), secure, wildcard: false, host: (start, start + host.len()) });
        };
        let domain = below.strip_prefix('.').filter(|domain| !domain.contains('*')).ok_or(OriginFault::Wildcard)?;
        if port.is_some_and(|port| port.contains('*')) {
            return Err(OriginFault::Wildcard);
        }
        check_host(domain)?;
        if looks_like_address(domain) {
            return Err(OriginFault::Wildcard);
        }
        check_port(secure, port)?;
        if !secure {
            return Err(OriginFault::PlaintextWildcard);
        }
        // Names that the list does not know are suffixes by themselves: nobody is to trust all of `https://*.internal`. Nor of
        // `https://*.kawasaki.jp`, which is none, but has nothing below it that is not.
        let is_suffix = |name: &str| psl::suffix_str(name) == Some(name);
        if is_suffix(domain) || psl::domain_str(domain).is_none() || is_suffix(&format!("portcullis-probe.{domain}")) {
            return Err(OriginFault::PublicSuffix);
        }
        let text = text.replacen('*', "", 1);
        Ok(Self { secure, wildcard: true, host: (start, start + below.len()), text })
    }

    /// The origin as it is sent; of a pattern, what stands without the asterisk.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn host(&self) -> &str {
        self.text.get(self.host.0..self.host.1).unwrap_or_default()
    }

    /// Whether it is of this machine: what it sends crosses no network.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }
}

/// Whether a host in an origin is this machine. Names below `localhost` are not counted: some browsers ask the network for them.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || address.and_then(|address| address.parse::<Ipv6Addr>().ok()).is_some_and(|address| address.is_loopback())
}

/// Host and port; an address of version 6 has colons of its own, within brackets.
pub(crate) fn split_port(authority: &str) -> Result<(&str, Option<&str>), OriginFault> {
    let end = if authority.starts_with('[') {
        authority.find(']').map(|end| end + 1).ok_or(OriginFault::Address)?
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end).ok_or(OriginFault::Host)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(OriginFault::Host),
    }
}

fn check_port(secure: bool, port: Option<&str>) -> Result<(), OriginFault> {
    let Some(port) = port else { return Ok(()) };
    let number: u16 = port.parse().map_err(|_| OriginFault::Port)?;
    // A sign or a leading zero is a number to Rust, and nothing to a browser.
    if number == 0 || port.starts_with(['0', '+']) {
        return Err(OriginFault::Port);
    }
    if number == if secure { 443 } else { 80 } { Err(OriginFault::DefaultPort) } else { Ok(()) }
}

fn check_host(host: &str) -> Result<(), OriginFault> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| OriginFault::Address)?;
        // An address has one form that browsers send (RFC 5952, without its exception for embedded IPv4).
        return if is_written_so(address, inner) { Ok(()) } else { Err(OriginFault::Address) };
    }
    if looks_like_address(host) {
        // `127.1` and `0x7f.1` are addresses to a browser, which sends them as four numbers.
        return if host.parse::<Ipv4Addr>().is_ok() { Ok(()) } else { Err(OriginFault::Address) };
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    if host.len() <= MOST_HOST && host.split('.').all(label) { Ok(()) } else { Err(OriginFault::Host) }
}

/// Whether a browser takes a host for an IPv4 address (URL, "ends-in-a-number checker").
fn looks_like_address(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())) || last.strip_prefix("0x").is_some_and(hex)
}

/// Browsers write an IPv4 address within an IPv6 one as two groups.
fn is_written_so(address: Ipv6Addr, text: &str) -> bool {
    let segments = address.segments();
    let embedded = address.to_ipv4_mapped().is_some() || address.to_string().contains('.');
    if embedded {
        let [.., high, low] = segments;
        let prefix = if address.to_ipv4_mapped().is_some() { "::ffff:" } else { "::" };
        return text == format!("{prefix}{high:x}:{low:x}");
    }
    address.to_string() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_149_origins_that_browsers_send_and_patterns_of_them() {
        use OriginFault::{
            Address, DefaultPort, Empty, Host, Null, Path, PlaintextWildcard, Port, PublicSuffix, Query, Scheme,
            Unicode, UpperCase, UserInfo, Wildcard,
        };
        for good in [
            "https://app.example",
            "https://app.example:8443",
            "https://a.b.c.app.example",
            "https://xn--bcher-kva.example",
            "https://my_app.example",
            "http://app.example",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "https://[::ffff:c000:201]",
            "https://*.app.example",
            "https://*.example.co.uk",
            "https://*.app.example:8443",
            "https://*.alice.github.io",
            "https://*.city.kawasaki.jp",
            "https://*.amazonaws.com",
            "https://*.mythic-beasts.com",
        ] {
            assert!(WebOrigin::parse(good).is_ok(), "{good}: {:?}", WebOrigin::parse(good));
        }
        for (bad, fault) in [
            ("", Empty),
            ("null", Null),
            ("NULL", Null),
            ("app.example", Scheme),
            ("//app.example", Scheme),
            ("ftp://app.example", Scheme),
            ("file:///etc", Scheme),
            ("chrome-extension://abc", Scheme),
            ("https:app.example", Scheme),
            (" https://app.example", Scheme),
            ("https://app.example/", Path),
            ("https://app.example/a", Path),
            ("https://app.example\\a", Path),
            ("https://app.example?", Query),
            ("https://app.example#x", Query),
            ("https://alice@app.example", UserInfo),
            ("https://alice:pw@app.example", UserInfo),
            ("https://App.example", UpperCase),
            ("HTTPS://app.example", UpperCase),
            ("https://b\u{fc}cher.example", Unicode),
            ("https://app\u{3002}example", Unicode),
            ("https://", Host),
            ("https://.example", Host),
            ("https://app..example", Host),
            ("https://app.example.", Host),
            ("https://app example", Host),
            ("https://app.example ", Host),
            ("https://app.example\t", Host),
            ("https://app%2eexample", Host),
            ("https://[::1]x", Host),
            ("https://127.1", Address),
            ("https://0x7f.1", Address),
            ("https://1.2.3.256", Address),
            ("https://1.2.3.4.5", Address),
            ("https://01.2.3.4", Address),
            ("https://[::1", Address),
            ("https://[0:0:0:0:0:0:0:1]", Address),
            ("https://[::FFFF:1.2.3.4]", UpperCase),
            ("https://[::ffff:1.2.3.4]", Address),
            ("https://[fe80::1%25eth0]", Address),
            ("https://app.example:443", DefaultPort),
            ("http://app.example:80", DefaultPort),
            ("https://app.example:", Port),
            ("https://app.example:0", Port),
            ("https://app.example:65536", Port),
            ("https://app.example:0443", Port),
            ("https://app.example:+8443", Port),
            ("https://app.example:a", Port),
            ("https://*", Wildcard),
            ("https://*example.com", Wildcard),
            ("https://*.*.example.com", Wildcard),
            ("https://app.*.example", Wildcard),
            ("https://app.example.*", Wildcard),
            ("https://app*.example", Wildcard),
            ("https://app.example:*", Wildcard),
            ("https://*.app.example:*", Wildcard),
            ("https://*.1.2.3.4", Wildcard),
            ("https://*.app.example:443", DefaultPort),
            ("http://*.app.example", PlaintextWildcard),
            ("https://*.com", PublicSuffix),
            ("https://*.co.uk", PublicSuffix),
            ("https://*.github.io", PublicSuffix),
            ("https://*.s3.amazonaws.com", PublicSuffix),
            ("https://*.kawasaki.jp", PublicSuffix),
            ("https://*.nom.br", PublicSuffix),
            ("https://*.sch.uk", PublicSuffix),
            ("https://*.compute.amazonaws.com", PublicSuffix),
            ("https://*.internal", PublicSuffix),
            ("https://*.localhost", PublicSuffix),
            // By `*.ck` every name below `ck` is a suffix.
            ("https://*.anything.ck", PublicSuffix),
        ] {
            assert_eq!(WebOrigin::parse(bad).unwrap_err(), fault, "{bad}");
        }
    }

    #[test]
    fn hosts_of_this_machine() {
        for (origin, loopback) in [
            ("http://localhost:1", true),
            ("http://app.localhost", false),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://localhost.example", false),
            ("http://127.0.0.1.example", false),
            ("http://[::2]", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(WebOrigin::parse(origin).unwrap().is_loopback(), loopback, "{origin}");
        }
    }
}
