//! Argon2id, one hash at a time, on the calling thread (RFC 9106). Pure but for the salt.

use argon2::{Algorithm, Argon2, Params, Version};
use password_hash::{
    PasswordHasher as _, PasswordVerifier as _,
    phc::{self, Output, ParamsString, Salt},
};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

use crate::{
    config::ConfigError,
    random::{self, RandomUnavailable},
    store::PasswordHash,
};

/// Longest password, in bytes as it was sent.
const MAX_PASSWORD: usize = 1024;
/// Costliest parameters that a stored hash may ask for: a store must not be a way to exhaust the memory.
const MAX_STORED: Argon2Params = Argon2Params { memory_kib: 256 * 1024, passes: 10, lanes: 8 };

/// How much work a hash takes.
///
/// The default, m=19 MiB, t=2, p=1, is one of OWASP's. Less than the least that OWASP recommends cannot be built.
///
/// ```
/// use portcullis::password::Argon2Params;
///
/// assert!(Argon2Params::new(47_104, 1, 1).is_ok());
/// assert!(Argon2Params::new(19_456, 1, 1).is_err());
/// # Ok::<(), portcullis::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Argon2Params {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for Argon2Params {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 }
    }
}

impl Argon2Params {
    /// Parameters of `memory_kib` KiB, `passes` passes over it, and `lanes` lanes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Argon2`] if they are below every set that OWASP recommends, or above m=256 MiB, t=10, p=8.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, ConfigError> {
        // OWASP Password Storage Cheat Sheet: each of these is as strong as the next.
        let enough =
            matches!((memory_kib / 1024, passes), (46.., 1..) | (19.., 2..) | (12.., 3..) | (9.., 4..) | (7.., 5..));
        let params = Self { memory_kib, passes, lanes };
        if enough && lanes > 0 && params.within(MAX_STORED) {
            Ok(params)
        } else {
            Err(ConfigError::Argon2 { memory_kib, passes, lanes })
        }
    }

    const fn within(self, most: Self) -> bool {
        self.memory_kib <= most.memory_kib && self.passes <= most.passes && self.lanes <= most.lanes
    }

    fn algorithm(self) -> Option<Argon2<'static>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, None).ok()?;
        Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }

    /// A hash that no password fits and that costs as much to check as any other of these parameters.
    pub(super) fn unmatchable(self) -> Result<PasswordHash, RandomUnavailable> {
        let hash = || {
            let algorithm = self.algorithm()?;
            Some(phc::PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(algorithm.params()).ok()?,
                salt: Some(Salt::new(&random::bytes::<16>().ok()?).ok()?),
                hash: Some(Output::new(&random::bytes::<32>().ok()?).ok()?),
            })
        };
        hash().map(|hash| PasswordHash::from_phc(hash.to_string())).ok_or(RandomUnavailable)
    }
}

/// Why a password was not hashed, or a hash not checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The password takes more than 1,024 bytes.
    TooLong,
    /// The stored hash is not Argon2id in PHC format, or asks for more work than is allowed.
    Unreadable,
    /// No salt, or no memory.
    System,
}

/// Hashes `password` with a fresh salt.
pub(super) fn hash(password: &str, params: Argon2Params) -> Result<PasswordHash, Failure> {
    if password.len() > MAX_PASSWORD {
        return Err(Failure::TooLong);
    }
    let salt = random::bytes::<16>().map_err(|_| Failure::System)?;
    let algorithm = params.algorithm().ok_or(Failure::System)?;
    let hash = algorithm.hash_password_with_salt(normal(password).as_bytes(), &salt).map_err(|_| Failure::System)?;
    Ok(PasswordHash::from_phc(hash.to_string()))
}

/// Checks `password` against `hash`; the bytes are compared in constant time.
///
/// Too long a password costs as much as any other before it is refused.
pub(super) fn verify(password: &str, hash: &PasswordHash) -> Result<bool, Failure> {
    let hash = readable(hash).ok_or(Failure::Unreadable)?;
    let too_long = password.len() > MAX_PASSWORD;
    let password = if too_long { Zeroizing::new(String::new()) } else { normal(password) };
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(!too_long),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(Failure::System),
    }
}

/// Parses a stored hash and holds its parameters to the bounds before any memory is taken for it.
fn readable(hash: &PasswordHash) -> Option<phc::PasswordHash> {
    let hash = phc::PasswordHash::new(hash.expose()).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let params = Argon2Params { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
    let argon2id = hash.algorithm == Algorithm::Argon2id.ident();
    let version = hash.version.is_none_or(|version| Version::try_from(version).is_ok());
    (argon2id && version && params.within(MAX_STORED) && hash.salt.is_some() && hash.hash.is_some()).then_some(hash)
}

/// NFC: one character, one spelling, whatever keyboard it came from (NIST SP 800-63B-4 §3.1.1.2).
fn normal(password: &str) -> Zeroizing<String> {
    Zeroizing::new(if is_nfc(password) { password.to_owned() } else { password.nfc().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheapest set that OWASP allows is still far from free.
    const CHEAP: Argon2Params = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn req_167_parameters_below_owasp_are_refused() {
        for (mib, passes, lanes, good) in [
            (46, 1, 1, true),
            (19, 2, 1, true),
            (12, 3, 1, true),
            (9, 4, 1, true),
            (7, 5, 1, true),
            (45, 1, 1, false),
            (18, 2, 1, false),
            (11, 3, 1, false),
            (8, 4, 1, false),
            (6, 10, 1, false),
            (19, 2, 0, false),
            (19, 0, 1, false),
            (257, 2, 1, false),
            (19, 11, 1, false),
            (19, 2, 9, false),
        ] {
            assert_eq!(Argon2Params::new(mib * 1024, passes, lanes).is_ok(), good, "m={mib} t={passes} p={lanes}");
        }
        assert!(Argon2Params::new(19 * 1024 - 1, 2, 1).is_err());
    }

    #[test]
    fn req_163_req_164_the_whole_password_counts_in_any_normal_form() {
        let long = "x".repeat(1024);
        let stored = hash(&long, CHEAP).unwrap();
        assert_eq!(verify(&long, &stored), Ok(true));
        assert_eq!(verify(&long[..1023], &stored), Ok(false));
        assert_eq!(verify(&format!("{}y", &long[..1023]), &stored), Ok(false));
        let accent = hash("caf\u{e9}", CHEAP).unwrap();
        assert_eq!(verify("cafe\u{301}", &accent), Ok(true));
        assert_eq!(verify("cafe", &accent), Ok(false));
    }

    #[test]
    fn req_166_each_hash_has_its_own_salt() {
        let salts: Vec<String> =
            (0..2).map(|_| hash("x", CHEAP).unwrap().expose().split('$').nth(4).unwrap().to_owned()).collect();
        assert!(salts[0] != salts[1] && salts[0].len() == 22, "128 bits each: {salts:?}");
    }

    #[test]
    fn req_170_too_long_a_password_is_refused() {
        assert_eq!(hash(&"x".repeat(1025), CHEAP), Err(Failure::TooLong));
        let empty = hash("", CHEAP).unwrap();
        assert_eq!(verify(&"x".repeat(1025), &empty), Ok(false), "it is not taken for the empty one");
    }

    #[test]
    fn req_169_stored_parameters_have_a_ceiling() {
        let salt = "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (phc, readable) in [
            (format!("$argon2id$v=19$m=8,t=1,p=1${salt}"), true),
            (format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}"), false),
            (format!("$argon2id$v=19$m=8,t=4000000000,p=1${salt}"), false),
            (format!("$argon2id$v=19$m=2048,t=1,p=200${salt}"), false),
            (format!("$argon2id$v=18$m=8,t=1,p=1${salt}"), false),
            (format!("$argon2id$m=8,t=1,p=1${salt}"), true),
            (format!("$argon2i$v=19$m=8,t=1,p=1${salt}"), false),
            ("$argon2id$v=19$m=8,t=1,p=1".to_owned(), false),
            ("plain text".to_owned(), false),
            (String::new(), false),
        ] {
            let verdict = verify("x", &PasswordHash::from_phc(&phc));
            assert_eq!(verdict, if readable { Ok(false) } else { Err(Failure::Unreadable) }, "{phc}");
        }
    }

    #[test]
    fn nothing_fits_the_unmatchable() {
        let hash = CHEAP.unmatchable().unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert_eq!(verify("", &hash), Ok(false));
    }
}
