//! Argon2id, one hash at a time, on the calling thread and in memory that the caller keeps (RFC 9106). Pure but for the
//! salt.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use password_hash::phc::{self, Output, ParamsString, Salt};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

use crate::{config::ConfigError, random, store::PasswordHash};

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

    /// Blocks that are filled, which is what takes the time: lanes are worked off one after the other here.
    const fn work(self) -> u64 {
        self.memory_kib as u64 * self.passes as u64
    }

    /// The costlier of two.
    pub(super) const fn or_costlier(self, other: Self) -> Self {
        if other.work() > self.work() { other } else { self }
    }

    /// What is left to do of this much work when `done` is done; `None` if it is nothing, or too little to matter.
    pub(super) fn beyond(self, done: Option<Self>) -> Option<Self> {
        let left = self.work().saturating_sub(done.map_or(0, Self::work));
        let passes = left.div_ceil(u64::from(self.memory_kib).max(1));
        let memory = left.checked_div(passes)?;
        let rest = Self { memory_kib: u32::try_from(memory).ok()?, passes: u32::try_from(passes).ok()?, lanes: 1 };
        Some(rest).filter(|rest| rest.memory_kib >= Params::MIN_M_COST)
    }

    /// Blocks of memory that a hash takes.
    pub(super) const fn blocks(self) -> usize {
        self.memory_kib as usize
    }
}

/// Memory that hashes are made in, one at a time. Kept from hash to hash: a login then neither waits for the system to
/// find pages nor leaves the allocator with holes of that size.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    fn for_params(&mut self, params: &Params) -> &mut [Block] {
        if self.0.len() < params.block_count() {
            self.0.resize(params.block_count(), Block::default());
        }
        &mut self.0
    }

    pub(super) fn blocks(&self) -> usize {
        self.0.len()
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
pub(super) fn hash(password: &str, params: Argon2Params, memory: &mut Memory) -> Result<PasswordHash, Failure> {
    if password.len() > MAX_PASSWORD {
        return Err(Failure::TooLong);
    }
    let salt = random::bytes::<16>().map_err(|_| Failure::System)?;
    let algorithm = params.algorithm().ok_or(Failure::System)?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    fill(&algorithm, normal(password).as_bytes(), &salt, &mut output, memory)?;
    let hash = || {
        Some(phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(algorithm.params()).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&output).ok()?),
        })
    };
    hash().map(|hash| PasswordHash::from_phc(hash.to_string())).ok_or(Failure::System)
}

/// Checks `password` against `hash`, and tells what work that was; the bytes are compared in constant time.
///
/// Too long a password costs as much as any other before it is refused.
pub(super) fn verify(
    password: &str,
    hash: &PasswordHash,
    memory: &mut Memory,
) -> Result<(bool, Argon2Params), Failure> {
    let stored = Stored::read(hash).ok_or(Failure::Unreadable)?;
    let too_long = password.len() > MAX_PASSWORD;
    let password = if too_long { Zeroizing::new(String::new()) } else { normal(password) };
    let mut output = [0; Output::MAX_LENGTH];
    let output = output.get_mut(..stored.output.len()).ok_or(Failure::Unreadable)?;
    fill(&stored.algorithm, password.as_bytes(), &stored.salt, output, memory)?;
    let fits = Output::new(output).is_ok_and(|output| output == stored.output);
    Ok((fits && !too_long, stored.params))
}

/// Does the work of hashing with `params`, for nothing.
pub(super) fn burn(password: &str, params: Argon2Params, memory: &mut Memory) -> Result<(), Failure> {
    let algorithm = params.algorithm().ok_or(Failure::System)?;
    let password = password.get(..MAX_PASSWORD).unwrap_or(password).as_bytes();
    let blocks = memory.for_params(algorithm.params());
    algorithm.fill_memory(password, &[0; 16], blocks).map_err(|_| Failure::System)
}

fn fill(
    algorithm: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), Failure> {
    let blocks = memory.for_params(algorithm.params());
    algorithm.hash_password_into_with_memory(password, salt, output, blocks).map_err(|_| Failure::System)
}

/// A stored hash that can be checked.
struct Stored {
    algorithm: Argon2<'static>,
    params: Argon2Params,
    salt: Salt,
    output: Output,
}

impl Stored {
    /// Parses a stored hash and holds its parameters to the bounds before any memory is taken for it.
    fn read(hash: &PasswordHash) -> Option<Self> {
        let hash = phc::PasswordHash::new(hash.expose()).ok()?;
        let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let all = Params::try_from(&hash).ok()?;
        let params = Argon2Params { memory_kib: all.m_cost(), passes: all.t_cost(), lanes: all.p_cost() };
        if hash.algorithm != Algorithm::Argon2id.ident() || !params.within(MAX_STORED) {
            return None;
        }
        let algorithm = Argon2::new(Algorithm::Argon2id, version, all);
        Some(Self { algorithm, params, salt: hash.salt?, output: hash.hash? })
    }
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

    fn hash(password: &str, params: Argon2Params) -> Result<PasswordHash, Failure> {
        super::hash(password, params, &mut Memory::default())
    }

    fn verify(password: &str, hash: &PasswordHash) -> Result<bool, Failure> {
        super::verify(password, hash, &mut Memory::default()).map(|(fits, _)| fits)
    }

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
    fn memory_is_kept_and_leaves_nothing_in_the_next_hash() {
        let mut memory = Memory::default();
        let wide = Argon2Params { memory_kib: 64, passes: 1, lanes: 2 };
        let stored = super::hash("x", wide, &mut memory).unwrap();
        assert_eq!((super::verify("x", &stored, &mut memory), memory.blocks()), (Ok((true, wide)), 64));
        let small = super::hash("x", CHEAP, &mut memory).unwrap();
        for (password, fits) in [("x", true), ("y", false)] {
            assert_eq!(super::verify(password, &small, &mut memory), Ok((fits, CHEAP)));
            assert_eq!(verify(password, &small), Ok(fits), "in fresh memory");
        }
        assert_eq!(memory.blocks(), 64);
    }

    #[test]
    fn req_034_whatever_was_done_the_rest_makes_up_for_it() {
        let params = |memory_kib, passes, lanes| Argon2Params { memory_kib, passes, lanes };
        let (owasp, pwdlib) = (params(19_456, 2, 1), params(65_536, 3, 4));
        assert_eq!(owasp.or_costlier(pwdlib), pwdlib);
        assert_eq!(pwdlib.or_costlier(owasp), pwdlib);
        for target in [owasp, pwdlib, params(47_104, 1, 1), params(7168, 5, 1), params(262_144, 10, 8)] {
            assert_eq!(
                target.beyond(None).map(|all| (all.memory_kib, all.passes)),
                Some((target.memory_kib, target.passes))
            );
            assert_eq!(target.beyond(Some(target)), None);
            for done in [owasp, params(8, 1, 1), params(7168, 5, 1), params(19_456, 4, 1), params(65_536, 1, 1)] {
                let rest = target.beyond(Some(done));
                let total = done.work() + rest.map_or(0, Argon2Params::work);
                let least = done.work().max(target.work());
                assert!(total.abs_diff(least) <= 16, "{target:?} {done:?} {rest:?}");
                assert!(
                    rest.is_none_or(|rest| rest.memory_kib <= target.memory_kib),
                    "no more memory than the costliest"
                );
            }
        }
        burn("x", params(64, 3, 1), &mut Memory::default()).unwrap();
        burn(&"é".repeat(2000), CHEAP, &mut Memory::default()).unwrap();
    }
}
