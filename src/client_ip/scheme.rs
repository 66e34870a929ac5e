//! Whether a request came over TLS, as far as somebody who is believed says so.

use http::{
    Extensions, HeaderMap, HeaderName,
    header::{FORWARDED, VIA},
};

use super::{ClientIp, ForwardedBy, TrustedProxies, peer};

/// Statements that are looked at, in both fields together. With more of them, the request came over plain HTTP.
const MOST_STATEMENTS: usize = 16;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// How a request came.
///
/// Whoever terminates TLS in this very process leaves it in the request's extensions, and is believed. The scheme in the
/// request's own URI never is: over HTTP/2 a client writes there what it likes.
///
/// ```
/// use http::Request;
/// use portcullis::client_ip::{Scheme, TrustedProxies};
///
/// let mut request = Request::get("https://api.example/").body(())?;
/// let proxies = TrustedProxies::none();
/// assert_eq!(proxies.scheme(request.extensions(), request.headers()), Scheme::Http);
/// request.extensions_mut().insert(Scheme::Https);
/// assert_eq!(proxies.scheme(request.extensions(), request.headers()), Scheme::Https);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// In the clear, or nobody who is believed says otherwise.
    Http,
    /// Over TLS, from the client to whoever says so.
    Https,
}

impl TrustedProxies {
    /// How a request came whose peer is where servers put it.
    ///
    /// A [`Scheme`] in the extensions decides. Without one, the word of a trusted peer counts: `proto` in `Forwarded`
    /// (RFC 7239), and `X-Forwarded-Proto`; of [`only`](Self::only), the one that goes with the field named there. It is
    /// [`Scheme::Https`] if there is a statement and each one says `https`: an element of `Forwarded` without `proto`, a
    /// hop over plain HTTP, anything that cannot be read, or more than 16 of them, and it is [`Scheme::Http`]. So what a
    /// client sends along can spoil its own request, and cannot help it past a proxy that adds what it has seen.
    ///
    /// Where a server tells no peer, as on a Unix socket, no field is believed.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use http::Request;
    /// use portcullis::client_ip::{Scheme, TrustedProxies};
    ///
    /// let proxies = TrustedProxies::parse(["192.0.2.0/24"])?;
    /// let mut request = Request::get("/").header("x-forwarded-proto", "https").body(())?;
    /// request.extensions_mut().insert(SocketAddr::from(([203, 0, 113, 9], 4711)));
    /// assert_eq!(proxies.scheme(request.extensions(), request.headers()), Scheme::Http);
    /// request.extensions_mut().insert(SocketAddr::from(([192, 0, 2, 1], 4711)));
    /// assert_eq!(proxies.scheme(request.extensions(), request.headers()), Scheme::Https);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scheme(&self, extensions: &Extensions, headers: &HeaderMap) -> Scheme {
        match (extensions.get::<Scheme>(), peer(extensions).map(ClientIp::from)) {
            (Some(&scheme), _) => scheme,
            (None, Some(peer)) if self.trusts(peer) && self.say_https(headers) => Scheme::Https,
            (None, _) => Scheme::Http,
        }
    }

    /// Whether a request comes from a program on this machine that speaks for itself: the peer is loopback, is not named
    /// as a proxy, and left no field that a proxy would.
    pub(crate) fn is_local(&self, extensions: &Extensions, headers: &HeaderMap) -> bool {
        let local = |peer: ClientIp| peer.0.is_loopback() && !self.trusts(peer);
        let forwarded =
            |name: &HeaderName| [FORWARDED, VIA, X_REAL_IP].contains(name) || name.as_str().starts_with("x-forwarded-");
        peer(extensions).map(ClientIp::from).is_some_and(local) && !headers.keys().any(forwarded)
    }

    /// Whether proxies say `https`, and nothing else.
    fn say_https(&self, headers: &HeaderMap) -> bool {
        let statements = |by, name: HeaderName, is_https: fn(&[u8]) -> bool| {
            let fields = headers.get_all(name).iter().filter(move |_| self.only.is_none_or(|only| only == by));
            // Commas within quotes part as well. What is left of the quotes then is no statement.
            fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b',')).map(is_https)
        };
        let forwarded = statements(ForwardedBy::Forwarded, FORWARDED, element_is_https);
        let x_forwarded = statements(ForwardedBy::XForwardedFor, X_FORWARDED_PROTO, is_https);
        let mut seen = 0;
        for is_https in forwarded.chain(x_forwarded) {
            seen += 1;
            if !is_https || seen > MOST_STATEMENTS {
                return false;
            }
        }
        seen > 0
    }
}

fn is_https(scheme: &[u8]) -> bool {
    trim(scheme).eq_ignore_ascii_case(b"https")
}

/// Whether a `forwarded-element` (RFC 7239 §4) can be read to its end and has one `proto`, which is `https`.
fn element_is_https(element: &[u8]) -> bool {
    let mut schemes = 0;
    for pair in element.split(|&byte| byte == b';') {
        let mut halves = trim(pair).splitn(2, |&byte| byte == b'=');
        let name = halves.next().filter(|name| name.iter().all(u8::is_ascii_graphic));
        let (Some(name), Some(value)) = (name, halves.next().and_then(value)) else { return false };
        if name.eq_ignore_ascii_case(b"proto") {
            schemes += 1;
            if schemes > 1 || !value.eq_ignore_ascii_case(b"https") {
                return false;
            }
        }
    }
    schemes == 1
}

/// A value within quotes or without. One with a quote or a backslash in it is none: it may be half of a text that a
/// client has chosen, such as a host, and that has semicolons and commas in it.
fn value(value: &[u8]) -> Option<&[u8]> {
    let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let plain = |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\');
    let value = unquoted.unwrap_or(value);
    value.iter().all(plain).then_some(value)
}

/// Drops the white space of lists (RFC 9110 §5.6.3), which is less than what Rust knows.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const F: &str = "forwarded";
    const P: &str = "x-forwarded-proto";
    const PROXY: &str = "10.0.0.1";
    const STRANGER: &str = "203.0.113.9";

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn extensions(peer: Option<&str>, said: Option<Scheme>) -> Extensions {
        let mut extensions = Extensions::new();
        if let Some(peer) = peer {
            extensions.insert(SocketAddr::new(peer.parse().unwrap(), 4711));
        }
        if let Some(said) = said {
            extensions.insert(said);
        }
        extensions
    }

    fn proxies(only: Option<ForwardedBy>) -> TrustedProxies {
        TrustedProxies { only, ..TrustedProxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap() }
    }

    fn is_https(peer: &str, fields: &[(&'static str, &[u8])]) -> bool {
        proxies(None).scheme(&extensions(Some(peer), None), &headers(fields)) == Scheme::Https
    }

    #[test]
    fn req_019_req_056_a_request_came_over_tls_if_each_statement_of_trusted_proxies_says_so() {
        type Row<'a> = (&'a str, &'a [(&'static str, &'a [u8])], bool);
        let rows: &[Row<'_>] = &[
            // Nobody is believed who is not named, whatever they send.
            (STRANGER, &[], false),
            (STRANGER, &[(P, b"https")], false),
            (STRANGER, &[(F, b"proto=https")], false),
            (STRANGER, &[(F, b"for=10.0.0.1;proto=https"), (P, b"https")], false),
            ("127.0.0.1", &[(P, b"https")], false),
            ("::1", &[(P, b"https")], false),
            ("::ffff:203.0.113.9", &[(P, b"https")], false),
            // A proxy that says nothing has seen nothing.
            (PROXY, &[], false),
            (PROXY, &[("x-forwarded-for", b"1.2.3.4")], false),
            (PROXY, &[("x-forwarded-ssl", b"on"), ("front-end-https", b"on")], false),
            // One that says so, in one field, the other or both.
            (PROXY, &[(P, b"https")], true),
            (PROXY, &[(P, b"HTTPS")], true),
            (PROXY, &[(P, b" \thttps\t ")], true),
            ("::ffff:10.0.0.1", &[(P, b"https")], true),
            ("fd00::1", &[(P, b"https")], true),
            (PROXY, &[(F, b"proto=https")], true),
            (PROXY, &[(F, b"Proto=\"HttpS\"")], true),
            (PROXY, &[(F, b"for=1.2.3.4;proto=https;by=10.0.0.1;host=api.example")], true),
            (PROXY, &[(F, b"for=\"[2001:db8::9]:4711\"; proto=https")], true),
            (PROXY, &[(F, b"for=[2001:db8::9];proto=https")], true),
            (PROXY, &[(F, b"for=1.2.3.4;proto=https"), (P, b"https")], true),
            // Several hops, each over TLS.
            (PROXY, &[(P, b"https, https,https")], true),
            (PROXY, &[(P, b"https"), (P, b"https")], true),
            (PROXY, &[(F, b"for=1.2.3.4;proto=https, for=10.0.0.2;proto=https")], true),
            // One hop that was not, wherever it stands.
            (PROXY, &[(P, b"http")], false),
            (PROXY, &[(P, b"https, http")], false),
            (PROXY, &[(P, b"http, https")], false),
            (PROXY, &[(P, b"https"), (P, b"http")], false),
            (PROXY, &[(P, b"http"), (P, b"https")], false),
            (PROXY, &[(F, b"proto=http")], false),
            (PROXY, &[(F, b"proto=https, proto=http")], false),
            (PROXY, &[(F, b"proto=http, proto=https")], false),
            (PROXY, &[(F, b"proto=https"), (P, b"http")], false),
            (PROXY, &[(F, b"proto=http"), (P, b"https")], false),
            // A hop of which nothing is said, or two things.
            (PROXY, &[(F, b"for=1.2.3.4")], false),
            (PROXY, &[(F, b"for=1.2.3.4, proto=https")], false),
            (PROXY, &[(F, b"proto=https, for=1.2.3.4")], false),
            (PROXY, &[(F, b"for=1.2.3.4"), (P, b"https")], false),
            (PROXY, &[(F, b"proto=https;proto=https")], false),
            (PROXY, &[(F, b"proto=https;proto=http")], false),
            // Nothing, and what is no scheme.
            (PROXY, &[(P, b"")], false),
            (PROXY, &[(F, b"")], false),
            (PROXY, &[(P, b","), (F, b",")], false),
            (PROXY, &[(P, b"https,")], false),
            (PROXY, &[(P, b",https")], false),
            (PROXY, &[(P, b"https"), (P, b"")], false),
            (PROXY, &[(P, b"https"), (F, b"")], false),
            (PROXY, &[(P, b"\"https\"")], false),
            (PROXY, &[(P, b"https https")], false),
            (PROXY, &[(P, b"https;q=1")], false),
            (PROXY, &[(P, b"httpss")], false),
            (PROXY, &[(P, b"wss")], false),
            (PROXY, &[(P, b"https://api.example")], false),
            (PROXY, &[(P, b"https\xff")], false),
            (PROXY, &[(P, "http\u{17f}".as_bytes())], false),
            (PROXY, &[(P, b"https\xc2\xa0")], false),
            (PROXY, &[(F, b"https")], false),
            (PROXY, &[(F, b"proto")], false),
            (PROXY, &[(F, b"proto=")], false),
            (PROXY, &[(F, b"proto =https")], false),
            (PROXY, &[(F, b"proto =http;proto=https")], false),
            (PROXY, &[(F, b"proto= https")], false),
            (PROXY, &[(F, b"proto='https'")], false),
            (PROXY, &[(F, b"proto=\"https")], false),
            (PROXY, &[(F, b"proto=https\"")], false),
            (PROXY, &[(F, b"proto=\"h\\ttps\"")], false),
            (PROXY, &[(F, b"proto=https;")], false),
            (PROXY, &[(F, b"proto=https;for=\xff")], false),
            (PROXY, &[(F, b"=https")], false),
            // A host that the client has chosen, which a proxy puts in quotes, is no statement of the proxy.
            (PROXY, &[(F, b"for=1.2.3.4;host=\"a;proto=https\"")], false),
            (PROXY, &[(F, b"for=1.2.3.4;host=\"a;proto=https;b=c\"")], false),
            (PROXY, &[(F, b"for=1.2.3.4;host=\"a,proto=https\"")], false),
            (PROXY, &[(F, b"for=1.2.3.4;host=a;proto=https;proto=http")], false),
            // Nor does a quote that the client has opened swallow what the proxy adds.
            (PROXY, &[(F, b"proto=https;x=\", for=1.2.3.4;proto=http")], false),
            (PROXY, &[(F, b"proto=https;x=\", for=1.2.3.4;proto=http;host=\"\"")], false),
        ];
        for (peer, fields, expected) in rows {
            let shown: Vec<_> = fields.iter().map(|(name, value)| (name, value.escape_ascii().to_string())).collect();
            assert_eq!(is_https(peer, fields), *expected, "{peer} {shown:?}");
        }
    }

    #[test]
    fn req_056_one_field_alone_counts_if_it_is_named() {
        use ForwardedBy::{Forwarded, XForwardedFor};
        for (only, fields, expected) in [
            (Forwarded, &[(F, &b"proto=https"[..]), (P, b"http")][..], true),
            (Forwarded, &[(F, b"proto=http"), (P, b"https")], false),
            (Forwarded, &[(P, b"https")], false),
            (XForwardedFor, &[(F, b"proto=http"), (P, b"https")], true),
            (XForwardedFor, &[(F, b"for=1.2.3.4"), (P, b"https")], true),
            (XForwardedFor, &[(F, b"proto=https"), (P, b"http")], false),
            (XForwardedFor, &[(F, b"proto=https")], false),
        ] {
            let scheme = proxies(Some(only)).scheme(&extensions(Some(PROXY), None), &headers(fields));
            assert_eq!(scheme == Scheme::Https, expected, "{only:?} {fields:?}");
        }
    }

    #[test]
    fn who_terminates_tls_here_decides() {
        use Scheme::{Http, Https};
        for (peer, said, field, expected) in [
            (None, None, "https", Http),
            (None, Some(Https), "http", Https),
            (Some(STRANGER), Some(Https), "", Https),
            (Some(PROXY), Some(Https), "http", Https),
            (Some(PROXY), Some(Http), "https", Http),
        ] {
            let scheme = proxies(None).scheme(&extensions(peer, said), &headers(&[(P, field.as_bytes())]));
            assert_eq!(scheme, expected, "{peer:?} {said:?} {field}");
        }
    }

    #[test]
    fn long_lists_are_no_statement_and_cost_little() {
        let times = |text: &str, times: usize| vec![text; times].join(",");
        for (fields, expected) in [
            (&[(P, &times("https", MOST_STATEMENTS))][..], true),
            (&[(P, &times("https", MOST_STATEMENTS + 1))], false),
            (&[(F, &times("proto=https", MOST_STATEMENTS))], true),
            (&[(F, &times("proto=https", 10)), (P, &times("https", 7))], false),
            (&[(P, &times("https", 100_000))], false),
            (&[(P, &",".repeat(500_000))], false),
            (&[(F, &";".repeat(500_000))], false),
            (&[(F, &"\"".repeat(500_000))], false),
            (&[(P, &(" ".repeat(500_000) + "https"))], true),
            (&[(F, &("for=".to_owned() + &"x".repeat(500_000) + ";proto=https"))], true),
        ] {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let (extensions, headers) = (extensions(Some(PROXY), None), headers(&fields));
            let mut scheme = Scheme::Http;
            let allocated = allocation_counter::measure(|| scheme = proxies(None).scheme(&extensions, &headers));
            let made = allocation_counter::measure(|| drop(proxies(None)));
            assert_eq!(scheme == Scheme::Https, expected);
            assert_eq!(allocated.count_total, made.count_total, "no allocation");
        }
    }

    #[test]
    fn programs_on_this_machine_that_speak_for_themselves() {
        for (peer, field, expected) in [
            (Some("127.0.0.1"), None, true),
            (Some("127.8.8.8"), None, true),
            (Some("::1"), None, true),
            (Some("::ffff:127.0.0.1"), None, true),
            (Some("127.0.0.1"), Some("x-forward"), true),
            (Some("127.0.0.1"), Some("forwarded"), false),
            (Some("127.0.0.1"), Some("x-forwarded-for"), false),
            (Some("127.0.0.1"), Some("x-forwarded-host"), false),
            (Some("127.0.0.1"), Some("x-real-ip"), false),
            (Some("127.0.0.1"), Some("via"), false),
            (Some(STRANGER), None, false),
            (Some(PROXY), None, false),
            (Some("0.0.0.0"), None, false),
            (None, None, false),
        ] {
            let headers = field.map(|field| headers(&[(field, b"")])).unwrap_or_default();
            assert_eq!(proxies(None).is_local(&extensions(peer, None), &headers), expected, "{peer:?} {field:?}");
        }
        let named = TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
        assert!(!named.is_local(&extensions(Some("127.0.0.1"), None), &HeaderMap::new()), "a proxy is none of them");
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(prop_oneof![9 => 32_u8..127, 1 => 128_u8..=255, 1 => Just(9)], 0..120);
        let likely = "(proto|for|https?|[=;, \"\\\\])(proto|for|https?|[=;, \"\\\\]){0,20}";
        prop_oneof![bytes, likely.prop_map(String::into_bytes)]
    }

    proptest! {
        #[test]
        fn req_056_whatever_a_client_sends_does_not_outdo_what_a_proxy_adds(
            forwarded in proptest::collection::vec(field(), 0..3),
            x_forwarded in proptest::collection::vec(field(), 0..3),
        ) {
            let sent: Vec<_> = forwarded.iter().map(|field| (F, &field[..])).collect();
            let sent = [sent, x_forwarded.iter().map(|field| (P, &field[..])).collect()].concat();
            prop_assert!(!is_https(STRANGER, &sent), "from a stranger");
            // As a field of its own, or at the end of the one that is there.
            for (name, added) in [(F, "for=203.0.113.9;proto=http;host=\"api.example\""), (P, "http")] {
                prop_assert!(!is_https(PROXY, &[&sent[..], &[(name, added.as_bytes())]].concat()));
                for (at, (_, last)) in sent.iter().enumerate().filter(|(_, (other, _))| *other == name) {
                    let mut sent = sent.clone();
                    let appended = [last, &b", "[..], added.as_bytes()].concat();
                    sent[at].1 = &appended;
                    prop_assert!(!is_https(PROXY, &sent));
                }
            }
        }
    }
}
