//! Requests of any kind, and a second opinion on each: what it may do, worked out from texts and lists of this file.

use std::{cell::Cell, collections::BTreeMap};

use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

use super::{ask, policy};

const METHOD: &str = "access-control-request-method";
const HEADERS: &str = "access-control-request-headers";
const PRIVATE: &str = "access-control-request-private-network";
const POLICIES: &[&str] = &["plain", "api", "http", "public", "wild", "star", "lan"];

/// Of each field its values, and each byte of them a character.
type Fields = BTreeMap<&'static str, Vec<String>>;

fn is_open(policy: &str) -> bool {
    ["public", "wild", "star"].contains(&policy)
}

/// Origins that a policy names, or some that may do everything where all may.
fn origins(policy: &str) -> &'static [&'static str] {
    match policy {
        "plain" | "lan" => &["https://app.example"],
        "http" => &["https://app.example", "http://plain.example"],
        "api" => {
            &["https://app.example", "https://admin.example:8443", "http://localhost:3000", "https://[2001:db8::1]"]
        }
        _ => &["https://anybody.example", "null"],
    }
}

fn methods(policy: &str) -> &'static [&'static str] {
    match policy {
        "api" => &["GET", "PUT", "DELETE"],
        "http" => &["PATCH"],
        "public" => &["GET"],
        _ => &["GET", "HEAD", "POST"],
    }
}

fn request_headers(policy: &str) -> &'static [&'static str] {
    match policy {
        "api" => &["authorization", "content-type", "x-request-id"],
        "http" => &["x-a"],
        _ => &[],
    }
}

/// Whether the pages of an origin may do anything at all.
fn allows_origin(policy: &str, origin: &str) -> bool {
    is_open(policy) || origins(policy).contains(&origin) || (policy == "api" && is_shop(origin))
}

/// Any names below `shop.example`, on one of two ports.
fn is_shop(origin: &str) -> bool {
    let host = origin.trim_end_matches(":8443");
    let ports = (origin.len() - host.len()) / ":8443".len();
    let plain =
        |label: &str| !label.is_empty() && label.chars().all(|c| "abcdefghijklmnopqrstuvwxyz0123456789-_".contains(c));
    let Some(("https:", host)) = host.split_once("//") else { return false };
    ports <= 1 && host.ends_with(".shop.example") && host.len() <= 253 && host.split('.').all(plain)
}

/// Whether headers may be sent; `padded`, also where there is much more white space about a name than browsers send, which is none.
fn allows_headers(policy: &str, fields: &[String], padded: bool) -> bool {
    let names = request_headers(policy);
    let elements: Vec<&str> = fields.iter().flat_map(|field| field.split(',')).collect();
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let known = |element: &&str| {
        let name = element.trim_matches([' ', '\t']).to_ascii_lowercase();
        name.is_empty() || names.contains(&name.as_str())
    };
    let short = |element: &&str| padded || element.len() <= longest + 3;
    let listed =
        || elements.len() <= names.len() + 16 && elements.iter().all(|element| known(element) && short(element));
    policy == "wild" || listed()
}

/// What the answer says, beside `Vary`.
fn opinion(name: &str, preflight: bool, sent: &Fields, padded: bool) -> BTreeMap<String, String> {
    let (_, [permitted, headers, exposed, max_age]) = policy(name);
    let one = |name: &str| match sent.get(name).map_or(&[][..], Vec::as_slice) {
        [value] => Some(value.clone()),
        _ => None,
    };
    let origin = one("origin").filter(|origin| allows_origin(name, origin));
    let reader = match origin {
        _ if is_open(name) && !preflight => Some("*".to_owned()),
        Some(_) if is_open(name) => Some("*".to_owned()),
        origin => origin,
    };
    let mut says = BTreeMap::new();
    let Some(reader) = reader else { return says };
    let mut say = |name: &str, value: Option<&str>| {
        says.extend(value.map(|value| (format!("access-control-{name}"), value.to_owned())));
    };
    let private = sent.contains_key(PRIVATE);
    if preflight {
        let method = one(METHOD).is_some_and(|method| name == "wild" || methods(name).contains(&method.as_str()));
        if !method || (private && name != "lan") {
            return says;
        }
        if !allows_headers(name, sent.get(HEADERS).map_or(&[], Vec::as_slice), padded) {
            return says;
        }
        say("allow-methods", permitted);
        say("allow-headers", headers);
        say("max-age", max_age);
        say("allow-private-network", private.then_some("true"));
    } else {
        say("expose-headers", exposed);
    }
    say("allow-origin", Some(&reader));
    say("allow-credentials", (name == "api").then_some("true"));
    says
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn texts(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    select(texts).prop_map(|text| text.as_bytes().to_vec())
}

/// An origin that the policy names, or that looks much like it.
fn origin(policy: &str) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
    let changed = (texts(origins(policy)), any::<Index>(), any::<u8>()).prop_map(|(mut origin, at, byte)| {
        let at = at.index(origin.len());
        origin[at] = byte;
        origin
    });
    let shops = if policy == "api" { 6 } else { 1 };
    let origins = prop_oneof![
        10 => texts(origins(policy)),
        1 => texts(origins("api")),
        shops => "https://[a-z]{1,3}(\\.[a-z0-9_-]{1,4}){0,2}\\.shop\\.example(:8443){0,2}".prop_map(String::into_bytes),
        shops => "https?://[a-zA-Z.:#@*_/%-]{0,12}[.]?shop\\.example(:844[34])?".prop_map(String::into_bytes),
        shops => "https://([a-z]{60}\\.){3}[a-z]{54,60}\\.shop\\.example".prop_map(String::into_bytes),
        1 => changed,
        1 => bytes(40),
    ];
    origins.boxed()
}

fn method(policy: &str) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
    const OTHERS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "get", "GET ", "GET,PUT", "*", ""];
    prop_oneof![8 => texts(methods(policy)), 2 => texts(OTHERS), 1 => bytes(8)].boxed()
}

/// A list of headers, as browsers write it and as they do not.
fn headers(policy: &str) -> impl Strategy<Value = Vec<u8>> + Clone + use<> {
    const OTHERS: &[&str] = &["authorization", "content-type", "x-a", "X-B", "*", "cookie", "", "x-request-i"];
    let names = request_headers(policy);
    let own = select(if names.is_empty() { &[""] } else { names });
    let cased = (own.clone(), any::<Index>()).prop_map(|(name, at)| {
        let (start, end) = name.split_at(if name.is_empty() { 0 } else { at.index(name.len()) });
        start.to_owned() + &end.to_ascii_uppercase()
    });
    let padded = ("[ \t]{0,2}", cased, "[ \t]{0,2}").prop_map(|(before, name, after)| before + &name + &after);
    // About as many empty elements as may be.
    let commas = (0..7_usize, own.clone());
    let commas = commas.prop_map(move |(more, name)| ",".repeat(names.len() + 12 + more) + name);
    let joined = |names: Vec<String>| names.join(",").into_bytes();
    let lists = prop_oneof![
        3 => vec(own.prop_map(str::to_owned), 1..4).prop_map(joined),
        3 => vec(padded, 0..5).prop_map(joined),
        2 => commas.prop_map(String::into_bytes),
        1 => vec(texts(OTHERS), 1..3).prop_map(|names| names.join(&b',')),
        1 => "[a-z,* -]{0,60}".prop_map(String::into_bytes),
        1 => bytes(40),
    ];
    lists.boxed()
}

/// Mostly one field of a name, and at times none or several.
fn some(values: impl Strategy<Value = Vec<u8>> + Clone) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![8 => vec(values.clone(), 1), 2 => vec(values, 0..3)]
}

/// A policy, and a request: its method, and the values of its origin, and of the method, the headers and the private network that
/// it asks for.
type Asked = (&'static str, &'static str, Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn requests() -> impl Strategy<Value = Asked> {
    select(POLICIES).prop_flat_map(|policy| {
        (
            Just(policy),
            prop_oneof![3 => Just("OPTIONS"), 1 => select(&["GET", "POST", "TRACE", "X"][..])],
            some(origin(policy)),
            some(method(policy)),
            prop_oneof![1 => Just(Vec::new()), 3 => vec(headers(policy), 1..3)],
            prop_oneof![6 => Just(Vec::new()), 1 => vec(texts(&["true", "", "?1"]), 1..3)],
        )
    })
}

/// The request's fields, and how an oracle reads them.
fn put(headers: &mut HeaderMap, sent: &mut Fields, name: &'static str, values: Vec<Vec<u8>>) {
    for value in values {
        if let Ok(field) = HeaderValue::from_bytes(&value) {
            headers.append(name, field);
            sent.entry(name).or_default().push(value.into_iter().map(char::from).collect());
        }
    }
}

/// Permission is there exactly if it should be, with all that belongs to it and nothing else; and nothing panics.
#[test]
fn req_143_req_153_any_bytes_get_an_answer_of_the_table() {
    let config = Config { failure_persistence: None, ..Config::with_cases(8 * Config::default().cases) };
    let least = config.cases / 20;
    // Preflight requests and others, each refused and allowed.
    let met = [const { Cell::new(0) }; 4];
    let tried = TestRunner::new(config).run(&requests(), |(name, method, origins, methods, headers, private)| {
        let mut request = Request::builder().method(method).uri("/200").body(String::new()).unwrap();
        let mut sent = Fields::new();
        for (name, values) in [("origin", origins), (METHOD, methods), (HEADERS, headers), (PRIVATE, private)] {
            put(request.headers_mut(), &mut sent, name, values);
        }
        let preflight = method == "OPTIONS" && sent.contains_key("origin") && sent.contains_key(METHOD);
        let (called, answer) = ask(policy(name).0, request).now_or_never().unwrap();
        prop_assert_eq!(called, !preflight);
        prop_assert_eq!(answer.status().as_u16(), if preflight { 204 } else { 200 });
        let says = answer.headers().iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect::<String>();
        let mut found: Vec<_> = says.map(|(name, value)| (name.to_string(), text(value))).collect();
        found.sort();
        let kind = &met[2 * usize::from(preflight) + usize::from(!found.is_empty())];
        kind.set(kind.get() + 1);
        if found != Vec::from_iter(opinion(name, preflight, &sent, true)) {
            prop_assert_eq!(found, Vec::from_iter(opinion(name, preflight, &sent, false)));
        }
        Ok(())
    });
    tried.unwrap();
    assert!(met.iter().all(|count| count.get() >= least), "{met:?}");
}
