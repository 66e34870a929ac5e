//! What attempts count under: digests of one width, that say neither name nor address.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use aws_lc_rs::{digest, hmac};

use crate::{
    config::{ConfigError, ConfigErrors},
    jwt::{Algorithm, hmac_key},
    random,
    secret::Secret,
    throttle::{AttemptKey, Limit},
};

/// Makes keys of names and addresses.
pub(super) enum Digests {
    /// For this process alone: secret, of 128 bits, and fast.
    Here([RandomState; 2]),
    /// The same on all machines.
    Shared(Box<hmac::Key>),
}

impl Digests {
    /// The parts before the last are of one width for each kind.
    pub(super) fn key(&self, kind: Limit, parts: &[&[u8]]) -> AttemptKey {
        let mut digest = [0; 16];
        match self {
            Self::Here(halves) => {
                for (half, state) in digest.chunks_exact_mut(8).zip(halves) {
                    let mut hasher = state.build_hasher();
                    hasher.write_u8(kind as u8);
                    for part in parts {
                        hasher.write(part);
                    }
                    half.copy_from_slice(&hasher.finish().to_be_bytes());
                }
            }
            Self::Shared(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(&[kind as u8]);
                for part in parts {
                    context.update(part);
                }
                digest.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
            }
        }
        AttemptKey { kind, digest }
    }
}

/// The key for what attempts count under in a shared store, and that for devices.
pub(super) fn keys(secret: Option<&Secret<String>>, realm: &str) -> Result<[hmac::Key; 2], ConfigErrors> {
    const LABELS: [&[u8]; 2] = [b"portcullis login attempts", b"portcullis login devices"];
    let [names, devices] = if let Some(secret) = secret {
        let secret = || hmac_key(Algorithm::Hs256, secret.expose().as_bytes());
        [secret()?, secret()?]
    } else {
        // No secret that machines share: what they count must all the same be the same. Devices can wait for the next login.
        let random: [u8; 32] = random::bytes().map_err(|_| ConfigError::NoRandom)?;
        let known = digest::digest(&digest::SHA256, b"portcullis");
        [known.as_ref(), &random].map(|key| hmac::Key::new(hmac::HMAC_SHA256, key))
    };
    let derived = |(root, label): (hmac::Key, &[u8])| {
        let key = hmac::sign(&root, &[label, &[0], realm.as_bytes()].concat());
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    };
    let [label, other] = LABELS;
    Ok([derived((names, label)), derived((devices, other))])
}
