//! What is looked for: each secret, in each way in which it could be written.

use std::{collections::BTreeMap, fmt::Write as _};

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// One that was found.
pub struct Found {
    pub name: String,
    pub encoding: &'static str,
    /// For whoever mends it.
    pub around: String,
}

/// Secrets, in every encoding.
#[derive(Default)]
pub struct Needles {
    needles: Vec<(String, &'static str, Vec<u8>)>,
    secrets: usize,
}

impl Needles {
    /// Adds a text. Shorter ones than 10 bytes could be anything.
    pub fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 10, "{name}: {secret:?}");
        if self.needles.iter().any(|(_, _, known)| known == secret.as_bytes()) {
            return;
        }
        self.secrets += 1;
        for (encoding, text) in encodings(secret.as_bytes()) {
            self.needles.push((name.to_owned(), encoding, text.into_bytes()));
        }
        if let Ok(json) = serde_json::to_string(secret) {
            self.push(name, "JSON", json.trim_matches('"').to_owned());
        }
        self.push(name, "Debug", format!("{secret:?}").trim_matches('"').to_owned());
        self.push(name, "Debug", secret.escape_default().to_string());
        let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        self.push(name, "percent", percent.to_lowercase());
        self.push(name, "form", percent.replace("%20", "+"));
        self.push(name, "percent", percent);
        self.push(name, "text", secret.to_owned());
    }

    /// Adds what is no text.
    pub fn add_bytes(&mut self, name: &str, secret: &[u8]) {
        self.secrets += 1;
        for (encoding, text) in encodings(secret) {
            self.needles.push((name.to_owned(), encoding, text.into_bytes()));
        }
        self.needles.push((name.to_owned(), "bytes", secret.to_vec()));
    }

    /// A token: all of it, and each of its parts.
    pub fn add_token(&mut self, name: &str, token: &str) {
        self.add(name, token);
        for (part, text) in ["header", "payload", "signature"].iter().zip(token.split('.')) {
            if text.len() >= 20 {
                self.add(&format!("{name}'s {part}"), text);
            }
        }
    }

    fn push(&mut self, name: &str, encoding: &'static str, text: String) {
        self.needles.push((name.to_owned(), encoding, text.into_bytes()));
    }

    /// How many secrets there are, and how many needles they make.
    pub const fn count(&self) -> (usize, usize) {
        (self.secrets, self.needles.len())
    }

    /// What is found of them, and where first.
    pub fn search(&self, text: &[u8]) -> Vec<Found> {
        let automaton = AhoCorasick::new(self.needles.iter().map(|(_, _, needle)| needle)).unwrap();
        let mut first = BTreeMap::new();
        for hit in automaton.find_overlapping_iter(text) {
            let (name, encoding, _) = &self.needles[hit.pattern().as_usize()];
            first.entry((name, *encoding)).or_insert(hit.start());
        }
        let found = |((name, encoding), at): ((&String, _), usize)| {
            let around = &text[at.saturating_sub(300)..text.len().min(at + 100)];
            Found { name: name.clone(), encoding, around: String::from_utf8_lossy(around).into_owned() }
        };
        first.into_iter().map(found).collect()
    }

    /// How one secret is written.
    pub fn of(&self, name: &str) -> Vec<(&'static str, String)> {
        let own = self.needles.iter().filter(|(own, ..)| own == name);
        own.map(|(_, encoding, text)| (*encoding, String::from_utf8_lossy(text).into_owned())).collect()
    }
}

/// Encodings of bytes, whether they are a text or not.
fn encodings(secret: &[u8]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (encoding, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
        // By itself, and after one or two bytes of something else: what of it does not depend on what comes before and after.
        for shift in 0..3 {
            let mut bytes = vec![0; shift];
            bytes.extend_from_slice(secret);
            let text = engine.encode(&bytes);
            let (begin, end) = ([0, 2, 3][shift], bytes.len() / 3 * 4);
            found.push((encoding, text[begin..end].to_owned()));
        }
    }
    let hex = secret.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    found.push(("hex", hex.to_uppercase()));
    found.push(("hex", hex));
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>();
    found.push(("list of bytes", list.join(", ")));
    found.push(("list of bytes", list.join(",")));
    found
}
