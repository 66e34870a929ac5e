//! Argon2id, one hash at a time, on the calling thread and in memory that the caller keeps (RFC 9106). Pure but for the
//! salt.

use argon2::{Algorithm, Argon2, Block, KeyId, Params, ParamsBuilder, Version};
use password_hash::phc::{self, Output, ParamsString, Salt};
use zeroize::Zeroizing;

use super::{
    cost::Work,
    pepper::{Pepper, Peppers},
    stored::{MAX_PASSWORD, normal},
};
use crate::{config::ConfigError, random, store::PasswordHash};

/// Bytes of salt in a new hash.
const SALT: usize = 16;
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

    /// Blocks that are filled, which is what takes the time: lanes are worked off one after the other here.
    pub(super) const fn work(self) -> Work {
        Work::blocks(self.memory_kib as u64 * self.passes as u64)
    }

    /// Parameters that do some work for nothing, in one lane; `None` if that is less than Argon2 can do.
    pub(super) fn of_work(memory_kib: u32, passes: u32) -> Option<Self> {
        (memory_kib >= Params::MIN_M_COST).then_some(Self { memory_kib, passes, lanes: 1 })
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
    /// Takes this many blocks of 1 KiB from the system, and writes to each, so that they are there.
    pub(super) fn of(blocks: usize) -> Result<Self, Failure> {
        let mut memory = Self::default();
        memory.grow(blocks)?;
        Ok(memory)
    }

    fn grow(&mut self, blocks: usize) -> Result<(), Failure> {
        let more = blocks.saturating_sub(self.0.len());
        self.0.try_reserve_exact(more).map_err(|_| Failure::System)?;
        self.0.resize(self.0.len() + more, Block::default());
        Ok(())
    }

    fn for_params(&mut self, params: &Params) -> Result<&mut [Block], Failure> {
        self.grow(params.block_count())?;
        Ok(&mut self.0)
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
    /// The stored hash is in no form that is known here, asks for more work than is allowed, or for a pepper that is not
    /// there.
    Unreadable,
    /// No salt, or no memory.
    System,
}

/// Hashes `password` with a fresh salt.
pub(super) fn hash(
    password: &str,
    params: Argon2Params,
    pepper: Option<&Pepper>,
    memory: &mut Memory,
) -> Result<PasswordHash, Failure> {
    if password.len() > MAX_PASSWORD {
        return Err(Failure::TooLong);
    }
    let salt = random::bytes::<SALT>().map_err(|_| Failure::System)?;
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    let mut hash = || {
        let mut all = ParamsBuilder::new();
        all.m_cost(params.memory_kib).t_cost(params.passes).p_cost(params.lanes);
        if let Some(pepper) = pepper {
            all.keyid(KeyId::new(pepper.id.as_bytes()).ok()?);
        }
        let all = all.build().ok()?;
        let algorithm = keyed(Algorithm::Argon2id, Version::V0x13, all, pepper)?;
        fill(&algorithm, normal(password).as_bytes(), &salt, &mut output, memory).ok()?;
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

/// Does the work of hashing with `params`, for nothing.
pub(super) fn burn(password: &str, params: Argon2Params, memory: &mut Memory) -> Result<(), Failure> {
    let all = Params::new(params.memory_kib, params.passes, params.lanes, None).map_err(|_| Failure::System)?;
    let algorithm = Argon2::new(Algorithm::Argon2id, Version::V0x13, all);
    // As for a hash that is there.
    let password = if password.len() > MAX_PASSWORD { Zeroizing::new(String::new()) } else { normal(password) };
    let blocks = memory.for_params(algorithm.params())?;
    algorithm.fill_memory(password.as_bytes(), &[0; SALT], blocks).map_err(|_| Failure::System)
}

fn keyed(algorithm: Algorithm, version: Version, params: Params, pepper: Option<&Pepper>) -> Option<Argon2<'_>> {
    match pepper {
        Some(pepper) => Argon2::new_with_secret(pepper.key(), algorithm, version, params).ok(),
        None => Some(Argon2::new(algorithm, version, params)),
    }
}

fn fill(
    algorithm: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), Failure> {
    let blocks = memory.for_params(algorithm.params())?;
    algorithm.hash_password_into_with_memory(password, salt, output, blocks).map_err(|_| Failure::System)
}

/// A stored hash that can be checked.
pub(super) struct Argon2Hash<'a> {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    pepper: Option<&'a Pepper>,
    salt: Salt,
    output: Output,
}

impl<'a> Argon2Hash<'a> {
    /// Parses a stored hash and holds its parameters to the bounds before any memory is taken for it. A hash that names a
    /// pepper which is not there cannot be checked; it is never taken for one without.
    pub(super) fn read(text: &str, peppers: &'a Peppers) -> Option<Self> {
        let hash = phc::PasswordHash::new(text).ok()?;
        let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok().filter(|algorithm| is_read(*algorithm))?;
        let params = Params::try_from(&hash).ok()?;
        let pepper = match params.keyid() {
            [] => None,
            id => Some(peppers.named(id)?),
        };
        let read = Self { algorithm, version, params, pepper, salt: hash.salt?, output: hash.hash? };
        let sound = read.salt.as_ref().len() >= argon2::MIN_SALT_LEN;
        (sound && read.params().within(MAX_STORED)).then_some(read)
    }

    pub(super) const fn params(&self) -> Argon2Params {
        Argon2Params { memory_kib: self.params.m_cost(), passes: self.params.t_cost(), lanes: self.params.p_cost() }
    }

    /// Whether checking it is the very work that a new hash takes.
    pub(super) fn costs(&self, params: Argon2Params) -> bool {
        self.algorithm == Algorithm::Argon2id && self.params() == params
    }

    /// Whether a new hash would be made in the same way.
    pub(super) fn is_made_as(&self, params: Argon2Params, pepper: Option<&Pepper>) -> bool {
        let sizes = self.salt.as_ref().len() >= SALT && self.output.len() >= Params::DEFAULT_OUTPUT_LEN;
        let id = |pepper: &Pepper| pepper.id.clone();
        self.costs(params) && self.version == Version::V0x13 && sizes && self.pepper.map(id) == pepper.map(id)
    }

    /// Whether it is the hash of these bytes; compared in constant time.
    pub(super) fn fits(&self, password: &[u8], memory: &mut Memory) -> Result<bool, Failure> {
        let algorithm = keyed(self.algorithm, self.version, self.params.clone(), self.pepper).ok_or(Failure::System)?;
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..self.output.len()).ok_or(Failure::Unreadable)?;
        fill(&algorithm, password, &self.salt, output, memory)?;
        Ok(Output::new(output).is_ok_and(|output| output == self.output))
    }
}

/// What is weaker than Argon2id (RFC 9106 §4) is read where hashes of other programs are.
fn is_read(algorithm: Algorithm) -> bool {
    algorithm == Algorithm::Argon2id || cfg!(feature = "legacy-hashes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{password::stored::Stored, secret::Secret};

    /// The cheapest set that OWASP allows is still far from free.
    const CHEAP: Argon2Params = Argon2Params { memory_kib: 8, passes: 1, lanes: 1 };

    fn hash(password: &str, params: Argon2Params) -> Result<PasswordHash, Failure> {
        super::hash(password, params, None, &mut Memory::default())
    }

    fn verify_in(password: &str, hash: &PasswordHash, memory: &mut Memory) -> Result<bool, Failure> {
        Stored::read(hash, &Peppers::default()).ok_or(Failure::Unreadable)?.fits(password, memory)
    }

    fn verify(password: &str, hash: &PasswordHash) -> Result<bool, Failure> {
        verify_in(password, hash, &mut Memory::default())
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
            (format!("$argon2i$v=19$m=8,t=1,p=1${salt}"), cfg!(feature = "legacy-hashes")),
            ("$argon2id$v=19$m=8,t=1,p=1$AAAAAA$AAAAAAAAAAAAAAAAAAAAAA".to_owned(), false),
            (format!("$argon2x$v=19$m=8,t=1,p=1${salt}"), false),
            (format!("$argon2id$v=19$m=8,t=1,p=1,keyid=MQ${salt}"), false),
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
        let mut memory = Memory::of(32).unwrap();
        let wide = Argon2Params { memory_kib: 64, passes: 1, lanes: 2 };
        let stored = super::hash("x", wide, None, &mut memory).unwrap();
        assert_eq!((verify_in("x", &stored, &mut memory), memory.blocks()), (Ok(true), 64));
        let small = super::hash("x", CHEAP, None, &mut memory).unwrap();
        for (password, fits) in [("x", true), ("y", false)] {
            assert_eq!(verify_in(password, &small, &mut memory), Ok(fits));
            assert_eq!(verify(password, &small), Ok(fits), "in fresh memory");
        }
        burn("x", Argon2Params { memory_kib: 64, passes: 3, lanes: 1 }, &mut memory).unwrap();
        burn(&"é".repeat(2000), CHEAP, &mut memory).unwrap();
        assert_eq!(memory.blocks(), 64);
    }

    #[test]
    fn req_166_a_pepper_is_named_by_the_hash_and_needed_to_check_it() {
        let pepper = |id: &str, fill: &str| Pepper::new(id.to_owned(), Secret::new(fill.repeat(4)));
        let peppers = |current: Option<Pepper>, old: &[Pepper]| Peppers { current, old: old.to_vec() };
        let (one, two) = (pepper("1", "abcdefgh"), pepper("2", "ijklmnop"));
        let memory = &mut Memory::default();
        let stored = super::hash("x", CHEAP, Some(&one), memory).unwrap();
        assert!(stored.expose().starts_with("$argon2id$v=19$m=8,t=1,p=1,keyid=MQ$"), "{}", stored.expose());
        let plain = hash("x", CHEAP).unwrap();
        let unnamed = PasswordHash::from_phc(stored.expose().replace(",keyid=MQ", ""));
        let renamed = PasswordHash::from_phc(stored.expose().replace("keyid=MQ", "keyid=Mg"));
        for (name, all, hash, fits, made_so) in [
            ("current", peppers(Some(one.clone()), &[]), &stored, Some(true), true),
            ("old", peppers(Some(two.clone()), std::slice::from_ref(&one)), &stored, Some(true), false),
            ("without a current one", peppers(None, std::slice::from_ref(&one)), &stored, Some(true), false),
            ("unknown id", peppers(Some(two.clone()), &[]), &stored, None, false),
            ("no pepper at all", peppers(None, &[]), &stored, None, false),
            ("another secret under the id", peppers(Some(pepper("1", "qrstuvwx")), &[]), &stored, Some(false), true),
            ("id taken out of the hash", peppers(Some(one.clone()), &[]), &unnamed, Some(false), false),
            ("id of another one", peppers(Some(one.clone()), &[two]), &renamed, Some(false), false),
            ("from before the pepper", peppers(Some(one), &[]), &plain, Some(true), false),
        ] {
            let read = Stored::read(hash, &all);
            assert_eq!(read.as_ref().map(|read| read.fits("x", memory).unwrap()), fits, "{name}");
            assert_eq!(read.is_some_and(|read| read.is_made_as(CHEAP, all.current.as_ref())), made_so, "{name}");
        }
    }
}
