//! Where a request comes from, and how: the peer, or, behind proxies that are named, whom they speak for.
//!
//! ```
//! use axum::{Router, routing::get};
//! use portcullis::client_ip::{ClientIp, ClientIpLayer, TrustedProxies};
//! # use axum::{Extension};
//!
//! async fn whence(Extension(ClientIp(address)): Extension<ClientIp>) -> String {
//!     address.to_string()
//! }
//!
//! let proxies = TrustedProxies::parse(["10.0.0.0/8", "2001:db8::7"])?;
//! let app: Router = Router::new().route("/", get(whence)).layer(ClientIpLayer::new(proxies));
//! # Ok::<(), portcullis::config::ConfigErrors>(())
//! ```

mod layer;
mod scheme;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr as _,
    sync::Arc,
};

use http::{Extensions, HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

pub use self::{
    layer::{ClientIpLayer, ResolveClientIp},
    scheme::Scheme,
};
use crate::config::{ConfigError, ConfigErrors};

/// Proxies that may stand one behind another.
const MOST_HOPS: usize = 16;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a request comes from, IPv4 in its own form. [`ClientIpLayer`] leaves it in the request's extensions; every
/// layer that needs an address takes it from there, or else the peer's.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// What is known of a request: what [`ClientIpLayer`] has found, or else the peer's address.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().copied().or_else(|| peer(extensions).map(Self::from))
    }

    /// The network that it belongs to: enough to recognise a place, too little to follow a person. 24 bits of an IPv4 address,
    /// 48 of an IPv6 one.
    pub fn network(self) -> String {
        match self.0.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{}/24", Ipv4Addr::new(a, b, c, 0))
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        }
    }

    /// What is limited as one: an IPv4 address, also one that reaches us by way of IPv6 (NAT64, RFC 6052; 6to4, RFC 3056), or the
    /// first `prefix` bits of an IPv6 one, of which a household or a rented machine has 2^64.
    pub(crate) fn party(self, prefix: u8) -> [u8; 16] {
        match self.0.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => {
                if let Some(address) = embedded(address) {
                    return address.to_ipv6_mapped().octets();
                }
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(prefix))).unwrap_or_default();
                (u128::from(address) & mask).to_be_bytes()
            }
        }
    }
}

impl From<IpAddr> for ClientIp {
    /// An IPv4 address within an IPv6 one becomes what it is.
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

/// The IPv4 address that reaches us by way of IPv6.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bytes = address.octets();
    match bytes {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, rest @ ..] => Some(Ipv4Addr::from(rest)),
        [0x20, 0x02, rest @ ..] => rest.first_chunk::<4>().copied().map(Ipv4Addr::from),
        _ => None,
    }
}

/// The address at the other end of the connection, where servers put it: axum's `ConnectInfo<SocketAddr>`, tonic's
/// `TcpConnectInfo`, or a plain `SocketAddr`, for those who serve with hyper themselves.
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    let address = extensions.get::<SocketAddr>().copied();
    #[cfg(feature = "axum")]
    let address = address.or_else(|| Some(extensions.get::<::axum::extract::ConnectInfo<SocketAddr>>()?.0));
    #[cfg(feature = "tonic")]
    let address = address.or_else(|| {
        use ::tonic::transport::server::TcpConnectInfo;
        extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr)
    });
    address.map(|address| address.ip())
}

/// Proxies whose word on the client's address, and on its [scheme](Self::scheme), is taken. None is trusted unless named, loopback included.
///
/// From the peer on, each address that is a trusted proxy's is replaced by the one before it in `Forwarded` (RFC 7239) or
/// `X-Forwarded-For`, read from the right: what stands further left was sent by somebody whom nobody vouches for. An entry that is
/// no address, such as `unknown`, ends the walk at the proxy that wrote it.
///
/// A proxy adds to one of the two fields and passes the other on as it came. So where both are there and do not lead to the same
/// address, neither is believed, and the address is the proxy's own; [`only`](Self::only) names the one that counts.
///
/// ```
/// use portcullis::client_ip::TrustedProxies;
///
/// let proxies = TrustedProxies::parse(["192.0.2.0/24"])?;
/// let mut headers = http::HeaderMap::new();
/// headers.insert("x-forwarded-for", "198.51.100.66, 203.0.113.7".parse()?);
/// assert_eq!(proxies.client("192.0.2.1".parse()?, &headers).0.to_string(), "203.0.113.7");
/// assert_eq!(proxies.client("192.168.0.9".parse()?, &headers).0.to_string(), "192.168.0.9");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    only: Option<ForwardedBy>,
}

/// Which field proxies write the client's address into; its scheme goes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardedBy {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, and `X-Forwarded-Proto`.
    XForwardedFor,
}

impl TrustedProxies {
    /// Trusts nobody: the address is the peer's.
    pub fn none() -> Self {
        Self::default()
    }

    /// Trusts these networks, such as `10.0.0.0/8`, and addresses.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Network`] for each that is none, has bits beyond its prefix, or is every address there is.
    pub fn parse<S: AsRef<str>>(networks: impl IntoIterator<Item = S>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let network = |text: S| errors.keep(network(text.as_ref()));
        let networks = networks.into_iter().filter_map(network).collect();
        errors.finish(Some(Self { networks, only: None }))
    }

    /// Reads this field alone: the one that the proxies write or remove whatever a client has sent.
    #[must_use]
    pub fn only(self, field: ForwardedBy) -> Self {
        Self { only: Some(field), ..self }
    }

    /// Whose request it is that came from `peer` with these headers. Work is bounded by what trusted proxies have written.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientIp {
        let peer = ClientIp::from(peer);
        if !self.trusts(peer) {
            return peer;
        }
        let by = |field| match field {
            ForwardedBy::Forwarded => self.walk(peer, headers, &FORWARDED, forwarded_for),
            ForwardedBy::XForwardedFor => self.walk(peer, headers, &X_FORWARDED_FOR, address),
        };
        match self.only {
            Some(field) => by(field),
            None => match (headers.contains_key(FORWARDED), headers.contains_key(X_FORWARDED_FOR)) {
                (false, _) => by(ForwardedBy::XForwardedFor),
                (true, false) => by(ForwardedBy::Forwarded),
                (true, true) => {
                    let client = by(ForwardedBy::Forwarded);
                    if client == by(ForwardedBy::XForwardedFor) { client } else { peer }
                }
            },
        }
    }

    /// As [`client`](Self::client), for a request whose peer is where servers put it; `None` if it is not there.
    pub fn client_of(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<ClientIp> {
        peer(extensions).map(|peer| self.client(peer, headers))
    }

    fn trusts(&self, ClientIp(address): ClientIp) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// From the right, for as long as who wrote an entry is trusted. Fields that come more than once are one list, in order.
    fn walk(
        &self,
        peer: ClientIp,
        headers: &HeaderMap,
        name: &HeaderName,
        read: impl Fn(&str) -> Option<IpAddr>,
    ) -> ClientIp {
        let mut client = peer;
        // Commas within quotes are no reason to look further left: nothing that a client has sent can change how what stands to
        // the right of it is read.
        let fields = headers.get_all(name).iter().rev();
        let entries = fields.flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b','));
        for entry in entries.take(MOST_HOPS) {
            let Some(before) = std::str::from_utf8(entry).ok().and_then(|entry| read(entry.trim_matches([' ', '\t'])))
            else {
                return client;
            };
            client = before.into();
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }
}

/// A network, or an address as a network of its own. One with IPv4 addresses within IPv6 is one of IPv4.
fn network(text: &str) -> Result<IpNet, ConfigError> {
    let wrong = || ConfigError::Network(text.to_owned());
    let network = match IpAddr::from_str(text) {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => IpNet::from_str(text).map_err(|_| wrong())?,
    };
    let network = match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.network().to_canonical() {
            IpAddr::V4(address) => IpNet::new(address.into(), mapped.prefix_len() - 96).map_err(|_| wrong())?,
            IpAddr::V6(_) => network,
        },
        _ => network,
    };
    // A typing error in the prefix would trust strangers.
    if network.prefix_len() == 0 || network.trunc() != network { Err(wrong()) } else { Ok(network) }
}

/// An address as proxies write it: alone, with a port, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The address of a `forwarded-element` (RFC 7239 §4): the value of its one `for`, quoted or not.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let address = address(unquoted.unwrap_or(value))?;
            if found.replace(address).is_some() {
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[&str] = &["10.0.0.0/8", "192.0.2.1", "fd00::/8"];

    fn client(peer: &str, fields: &[(&'static str, &str)], only: Option<ForwardedBy>) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let proxies = TrustedProxies { only, ..TrustedProxies::parse(BOTH).unwrap() };
        proxies.client(peer.parse().unwrap(), &headers).0.to_string()
    }

    #[test]
    fn req_178_forwarded_addresses_are_read_from_the_right_while_whoever_wrote_them_is_trusted() {
        const X: &str = "x-forwarded-for";
        const F: &str = "forwarded";
        for (peer, fields, expected) in [
            // Nobody is believed who is not named.
            ("203.0.113.9", &[(X, "1.2.3.4")][..], "203.0.113.9"),
            ("127.0.0.1", &[(X, "1.2.3.4")], "127.0.0.1"),
            ("::1", &[(F, "for=1.2.3.4")], "::1"),
            ("::ffff:203.0.113.9", &[(X, "1.2.3.4")], "203.0.113.9"),
            // The proxy, and nothing from it.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(X, "")], "10.0.0.1"),
            // One hop, and what the client has sent before it.
            ("10.0.0.1", &[(X, "203.0.113.9")], "203.0.113.9"),
            ("::ffff:10.0.0.1", &[(X, "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(X, "1.2.3.4, 203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(X, "10.0.0.7, 203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(X, "1.2.3.4"), (X, "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(X, "\", 203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(F, "for=\"1.2.3.4, for=203.0.113.9")], "203.0.113.9"),
            // More hops.
            ("10.0.0.1", &[(X, "1.2.3.4,203.0.113.9 ,\t10.2.3.4, 192.0.2.1")], "203.0.113.9"),
            ("fd00::1", &[(X, "2001:db8::9, fd00::2")], "2001:db8::9"),
            ("10.0.0.1", &[(X, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            // With ports and brackets.
            ("10.0.0.1", &[(X, "203.0.113.9:4711")], "203.0.113.9"),
            ("10.0.0.1", &[(X, "[2001:db8::9]:4711")], "2001:db8::9"),
            ("10.0.0.1", &[(X, "[2001:db8::9]")], "2001:db8::9"),
            ("10.0.0.1", &[(X, "2001:db8::9")], "2001:db8::9"),
            ("10.0.0.1", &[(X, "::ffff:203.0.113.9")], "203.0.113.9"),
            ("10.0.0.1", &[(F, "for=203.0.113.9;proto=https;by=10.0.0.1")], "203.0.113.9"),
            ("10.0.0.1", &[(F, "For=\"[2001:db8::9]:4711\"")], "2001:db8::9"),
            ("10.0.0.1", &[(F, "proto=https; for=\"203.0.113.9:80\"")], "203.0.113.9"),
            // What is no address ends the walk at whoever wrote it.
            ("10.0.0.1", &[(X, "1.2.3.4, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "1.2.3.4, unknown, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[(X, "1.2.3.4,")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, 1.2.3.4:99999")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, fe80::1%eth0")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, 010.1.1.1")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, [1.2.3.4]")], "10.0.0.1"),
            ("10.0.0.1", &[(X, "203.0.113.9, \u{ff11}.2.3.4")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=1.2.3.4, for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=1.2.3.4, for=unknown;proto=http")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=1.2.3.4, proto=http")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=1.2.3.4;for=5.6.7.8")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=\"1.2.3.4")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "1.2.3.4")], "10.0.0.1"),
            // Both fields: the proxy writes one, the client has sent the other.
            ("10.0.0.1", &[(F, "for=1.2.3.4"), (X, "203.0.113.9")], "10.0.0.1"),
            ("10.0.0.1", &[(F, "for=203.0.113.9"), (X, "203.0.113.9:80")], "203.0.113.9"),
        ] {
            assert_eq!(client(peer, fields, None), expected, "{peer} {fields:?}");
        }
        let both = [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client("10.0.0.1", &both, Some(ForwardedBy::XForwardedFor)), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &both, Some(ForwardedBy::Forwarded)), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &both[..1], Some(ForwardedBy::XForwardedFor)), "10.0.0.1");
    }

    #[test]
    fn req_178_long_lists_cost_no_more_than_trusted_hops() {
        let long = "1.2.3.4, ".repeat(2000) + "203.0.113.9";
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &long)], None), "203.0.113.9");
        assert_eq!(client("203.0.113.1", &[("x-forwarded-for", &long)], None), "203.0.113.1");
        let trusted = "1.2.3.4, ".to_owned() + &"10.0.0.7, ".repeat(MOST_HOPS) + "10.0.0.8";
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &trusted)], None), "10.0.0.7", "so many hops and no more");
        let commas = ",".repeat(16_384);
        assert_eq!(client("10.0.0.1", &[("forwarded", &commas)], None), "10.0.0.1");
    }

    proptest::proptest! {
        #[test]
        fn req_178_whatever_is_forwarded_by_a_stranger_is_not_looked_at(value in "[ -~]{0,200}") {
            for name in ["forwarded", "x-forwarded-for"] {
                assert_eq!(client("203.0.113.1", &[(name, &value)], None), "203.0.113.1");
                // From a proxy it gives some address, and never a panic.
                client("10.0.0.1", &[(name, &value)], None);
                // What a client sends does not change what a proxy adds.
                let added = format!("{value}, {}203.0.113.9", if name == "forwarded" { "for=" } else { "" });
                assert_eq!(client("10.0.0.1", &[(name, &added)], None), "203.0.113.9");
            }
        }
    }

    #[test]
    fn networks_to_trust() {
        for (text, good) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1", true),
            ("::1", true),
            ("fd00::/8", true),
            ("::ffff:10.0.0.0/104", true),
            ("10.0.0.1/8", false),
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("::ffff:0.0.0.0/96", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/", false),
            ("localhost", false),
            ("", false),
        ] {
            assert_eq!(TrustedProxies::parse([text]).is_ok(), good, "{text}");
        }
        assert_eq!(TrustedProxies::parse(["a", "::1", "b"]).unwrap_err().iter().count(), 2);
        let mapped = TrustedProxies::parse(["::ffff:10.0.0.0/104"]).unwrap();
        assert!(mapped.trusts(ClientIp::from("10.1.2.3".parse::<IpAddr>().unwrap())));
        assert!(!TrustedProxies::none().trusts(ClientIp::from("127.0.0.1".parse::<IpAddr>().unwrap())));
    }

    #[test]
    fn networks() {
        for (address, expected) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("::1", "::/48"),
        ] {
            assert_eq!(ClientIp(address.parse().unwrap()).network(), expected, "{address}");
        }
    }

    #[test]
    fn req_178_parties_are_networks_of_ipv6_and_single_addresses_of_ipv4() {
        let party = |address: &str, prefix| ClientIp(address.parse().unwrap()).party(prefix);
        assert_eq!(party("2001:db8::1", 64), party("2001:db8::ffff:1:2:3", 64));
        assert_ne!(party("2001:db8::1", 64), party("2001:db8:0:1::1", 64));
        assert_eq!(party("2001:db8::1", 48), party("2001:db8:0:1::1", 48));
        assert_eq!(party("203.0.113.9", 64), party("::ffff:203.0.113.9", 64));
        assert_ne!(party("203.0.113.9", 64), party("203.0.113.8", 64));
        assert_ne!(party("2001:db8::1", 128), party("2001:db8::2", 128));
        assert_eq!(party("64:ff9b::203.0.113.9", 64), party("203.0.113.9", 64));
        assert_ne!(party("64:ff9b::203.0.113.9", 64), party("64:ff9b::203.0.113.8", 64));
        assert_eq!(party("2002:cb00:7109:1::1", 64), party("203.0.113.9", 64));
    }

    #[test]
    fn peers_are_where_servers_put_them() {
        let address = SocketAddr::from(([203, 0, 113, 9], 4711));
        let mut extensions = Extensions::new();
        assert_eq!(ClientIp::of(&extensions), None);
        extensions.insert(address);
        assert_eq!(ClientIp::of(&extensions), Some(ClientIp(address.ip())));
        extensions.insert(ClientIp("198.51.100.1".parse().unwrap()));
        assert_eq!(ClientIp::of(&extensions).unwrap().0.to_string(), "198.51.100.1", "what was found goes before");
        #[cfg(feature = "axum")]
        {
            let mut extensions = Extensions::new();
            extensions.insert(::axum::extract::ConnectInfo(address));
            assert_eq!(ClientIp::of(&extensions), Some(ClientIp(address.ip())));
        }
        #[cfg(feature = "tonic")]
        {
            let mut extensions = Extensions::new();
            let remote_addr = Some(address);
            extensions.insert(::tonic::transport::server::TcpConnectInfo { local_addr: None, remote_addr });
            assert_eq!(ClientIp::of(&extensions), Some(ClientIp(address.ip())));
        }
    }
}
