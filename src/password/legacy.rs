//! Hashes that other programs have left in the store: bcrypt, PBKDF2 and scrypt, checked and never made. Pure.

use std::num::NonZero;

use aws_lc_rs::{constant_time, pbkdf2};
use base64_simd::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::argon2id::Failure;
use crate::config::ConfigErrors;

const COSTS: std::ops::RangeInclusive<u32> = 4..=16;
const MOST_ITERATIONS: u32 = 10_000_000;
/// Bytes that scrypt may take, as much as Argon2 may.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;
/// Bytes that it may write: as much as Argon2 does in ten passes.
const MOST_WRITTEN: u64 = 10 * MOST_MEMORY;
/// Of the output of any; the shortest is bcrypt's.
const OUTPUT: std::ops::RangeInclusive<usize> = 16..=64;
const MOST_SALT: usize = 64;
/// Bytes that bcrypt reads of a password.
const BCRYPT_READS: usize = 72;

/// What a hash that was made elsewhere takes to check.
///
/// | algorithm | forms that are read | bound |
/// |---|---|---|
/// | bcrypt | `$2a$`, `$2b$`, `$2y$` | cost 4 to 16 |
/// | PBKDF2-HMAC-SHA-256 | Django's `pbkdf2_sha256$…`; `$pbkdf2-sha256$…`, PHC or passlib's | 10,000,000 iterations |
/// | scrypt | Django's `scrypt$…`; `$scrypt$ln=…,r=…,p=…$…` | 256 MiB, ten times that in all lanes |
///
/// They are checked as the program that made them did, after NFC. bcrypt reads 72 bytes: of a longer password what follows
/// does not count until the hash is replaced by Argon2id, which happens when its owner next signs in. A password with a NUL
/// byte fits none of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Legacy {
    /// bcrypt with 2^`cost` rounds.
    Bcrypt {
        /// Logarithm of the rounds.
        cost: u32,
    },
    /// PBKDF2 with HMAC-SHA-256 (RFC 8018 §5.2).
    Pbkdf2Sha256 {
        /// Iterations.
        iterations: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// Logarithm of N.
        log_n: u8,
        /// Block size.
        r: u32,
        /// Lanes.
        p: u32,
    },
}

impl Legacy {
    /// Bytes of memory that it takes.
    pub(super) fn memory(self) -> u64 {
        match self {
            Self::Scrypt { log_n, r, p } => {
                // N blocks of one lane at a time, one more, and a block for each lane (RFC 7914 §6).
                let blocks = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX).saturating_add(u64::from(p) + 1);
                blocks.saturating_mul(u64::from(r)).saturating_mul(128)
            }
            Self::Bcrypt { .. } | Self::Pbkdf2Sha256 { .. } => 0,
        }
    }

    fn is_within_bounds(self) -> bool {
        match self {
            Self::Bcrypt { cost } => COSTS.contains(&cost),
            Self::Pbkdf2Sha256 { iterations } => (1..=MOST_ITERATIONS).contains(&iterations),
            Self::Scrypt { log_n, r, p } => {
                let some = log_n > 0 && r > 0 && p > 0;
                let lane = 1_u64.checked_shl(log_n.into()).unwrap_or(u64::MAX).saturating_mul(u64::from(r) * 128);
                some && self.memory() <= MOST_MEMORY && lane.saturating_mul(u64::from(p)) <= MOST_WRITTEN
            }
        }
    }

    /// Notes it if no hash may ask for that much.
    pub(super) fn check(self, errors: &mut ConfigErrors) {
        if !self.is_within_bounds() {
            errors.push(crate::config::ConfigError::LegacyHash(format!("{self:?}")));
        }
    }

    /// Computes the hash of these bytes.
    pub(super) fn derive(self, password: &[u8], salt: &[u8], output: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Bcrypt { cost } => {
                let salt = salt.try_into().map_err(|_| Failure::Unreadable)?;
                // As C has it: the NUL counts, as far as there is room for it.
                let mut key = Zeroizing::new([0; BCRYPT_READS]);
                let length = password.len().min(BCRYPT_READS);
                key.iter_mut().zip(password).for_each(|(to, from)| *to = *from);
                let key = key.get(..(length + 1).min(BCRYPT_READS)).ok_or(Failure::System)?;
                let bytes = Zeroizing::new(bcrypt::bcrypt(cost, salt, key));
                output.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
            }
            Self::Pbkdf2Sha256 { iterations } => {
                let iterations = NonZero::new(iterations).ok_or(Failure::Unreadable)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, output);
            }
            Self::Scrypt { log_n, r, p } => {
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| Failure::Unreadable)?;
                scrypt::scrypt(password, salt, &params, output).map_err(|_| Failure::Unreadable)?;
            }
        }
        Ok(())
    }
}

/// A stored hash that can be checked.
pub(super) struct LegacyHash<'a> {
    pub(super) takes: Legacy,
    salt: std::borrow::Cow<'a, [u8]>,
    output: Vec<u8>,
}

impl<'a> LegacyHash<'a> {
    /// Parses a stored hash and holds it to the bounds before anything is computed.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        if text.len() > MOST_STORED {
            return None;
        }
        let fields: Vec<&str> = text.split('$').collect();
        let read = match *fields.as_slice() {
            ["", "2a" | "2b" | "2y", cost, salted] if cost.len() == 2 => {
                let (salt, output) = salted.split_at_checked(22)?;
                let takes = Legacy::Bcrypt { cost: number(cost)? };
                // 23 bytes are kept of the 24.
                let [salt, output] = [(salt, 16), (output, 23)].map(|(text, length)| bcrypt_base64(text, length));
                Self { takes, salt: salt?.into(), output: output? }
            }
            ["pbkdf2_sha256", iterations, salt, output] => {
                let takes = Legacy::Pbkdf2Sha256 { iterations: number(iterations)? };
                Self { takes, salt: salt.as_bytes().into(), output: padded(output)? }
            }
            ["", "pbkdf2-sha256", params, salt, output] => {
                let (iterations, length) = match params.strip_prefix("i=") {
                    Some(params) => params.split_once(",l=").map_or((params, None), |(i, l)| (i, Some(l))),
                    None => (params, None),
                };
                let takes = Legacy::Pbkdf2Sha256 { iterations: number(iterations)? };
                let (salt, output) = (unpadded(salt)?, unpadded(output)?);
                if length.is_some_and(|length| number(length) != Some(output.len())) {
                    return None;
                }
                Self { takes, salt: salt.into(), output }
            }
            ["scrypt", n, salt, r, p, output] => {
                let n: u64 = number(n)?;
                let log_n = u8::try_from(n.trailing_zeros()).ok().filter(|_| n.is_power_of_two())?;
                let takes = Legacy::Scrypt { log_n, r: number(r)?, p: number(p)? };
                Self { takes, salt: salt.as_bytes().into(), output: padded(output)? }
            }
            ["", "scrypt", params, salt, output] => {
                let mut params = params.split(',');
                let mut next = |name| params.next()?.strip_prefix(name)?.strip_prefix('=');
                let takes =
                    Legacy::Scrypt { log_n: number(next("ln")?)?, r: number(next("r")?)?, p: number(next("p")?)? };
                if params.next().is_some() {
                    return None;
                }
                Self { takes, salt: unpadded(salt)?.into(), output: unpadded(output)? }
            }
            _ => return None,
        };
        let sound = OUTPUT.contains(&read.output.len()) && (1..=MOST_SALT).contains(&read.salt.len());
        (sound && read.takes.is_within_bounds()).then_some(read)
    }

    /// Whether it is the hash of these bytes; compared in constant time.
    /// Whether it depends on all of these bytes.
    pub(super) fn has_read(&self, password: &[u8]) -> bool {
        !matches!(self.takes, Legacy::Bcrypt { .. }) || password.len() <= BCRYPT_READS
    }

    pub(super) fn fits(&self, password: &[u8]) -> Result<bool, Failure> {
        let mut output = Zeroizing::new([0; *OUTPUT.end()]);
        let output = output.get_mut(..self.output.len()).ok_or(Failure::Unreadable)?;
        self.takes.derive(password, &self.salt, output)?;
        let fits = constant_time::verify_slices_are_equal(output, &self.output).is_ok();
        // bcrypt reads no further than a NUL, and HMAC makes no difference between a short key and one with NULs behind it: two
        // passwords would have one hash.
        Ok(fits && !password.contains(&0))
    }
}

/// Digits alone, without a sign or a leading zero that another reader may take for octal.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Bytes of a stored hash; the longest that is read takes half of it.
const MOST_STORED: usize = 512;
/// What the longest output takes in base64, and a little more.
const MOST_TEXT: usize = 96;

fn padded(text: &str) -> Option<Vec<u8>> {
    (text.len() <= MOST_TEXT).then(|| STANDARD.decode_to_vec(text).ok()).flatten()
}

/// passlib writes `.` for `+`.
fn unpadded(text: &str) -> Option<Vec<u8>> {
    (text.len() <= MOST_TEXT).then(|| STANDARD_NO_PAD.decode_to_vec(text.replace('.', "+")).ok()).flatten()
}

/// bcrypt's own alphabet: `./A-Za-z0-9`. What is left of the last character is not looked at: old programs wrote anything.
fn bcrypt_base64(text: &str, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    let (mut bits, mut held) = (0_u32, 0);
    if text.len() != (length * 8).div_ceil(6) {
        return None;
    }
    for byte in text.bytes() {
        let value = match byte {
            b'.' | b'/' => byte - b'.',
            b'A'..=b'Z' => byte - b'A' + 2,
            b'a'..=b'z' => byte - b'a' + 28,
            b'0'..=b'9' => byte - b'0' + 54,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuu";

    fn verdict(text: &str, password: &str) -> Option<bool> {
        LegacyHash::read(text).map(|hash| hash.fits(password.as_bytes()).unwrap())
    }

    #[test]
    fn req_168_hashes_of_other_programs_are_read() {
        for (text, password, takes) in [
            // jBCrypt's TestBCrypt.java.
            ("$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", "", Legacy::Bcrypt { cost: 6 }),
            ("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", "a", Legacy::Bcrypt { cost: 6 }),
            (
                "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.",
                "abcdefghijklmnopqrstuvwxyz",
                Legacy::Bcrypt { cost: 8 },
            ),
            // `crypt` of Debian's libcrypt.
            ("$2b$04$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e", "x", Legacy::Bcrypt { cost: 4 }),
            // Django's tests/auth_tests/test_hashers.py; the same come out of Python's hashlib.
            (
                "pbkdf2_sha256$12000$seasalt$Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s=",
                "lètmein",
                Legacy::Pbkdf2Sha256 { iterations: 12_000 },
            ),
            (
                "scrypt$16384$seasalt$8$5$ECMIUp+LMxMSK8xB/IVyba+KYGTI7FTnet025q/1f/vBAVnnP3hdYqJuRi+mJn6ji6ze3Fbb7JEFPKGpuEf5vw==",
                "lètmein",
                Legacy::Scrypt { log_n: 14, r: 8, p: 5 },
            ),
            // passlib's documentation.
            (
                "$pbkdf2-sha256$29000$N2YMIWQsBWBMae09x1jrPQ$1t8iyB2A.WF/Z5JZv.lfCIhXXN33N23OSgQYThBYRfk",
                "toomanysecrets",
                Legacy::Pbkdf2Sha256 { iterations: 29_000 },
            ),
            (
                "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
                "password",
                Legacy::Scrypt { log_n: 16, r: 8, p: 1 },
            ),
            // Python's hashlib, put into PHC form by hand.
            (
                "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$/X9S2Mwm1REvqIvFiD2Q4z8UsKrbhgi7qZ2jzSKV4Wc",
                "x",
                Legacy::Pbkdf2Sha256 { iterations: 1000 },
            ),
        ] {
            assert_eq!(LegacyHash::read(text).map(|hash| hash.takes), Some(takes), "{text}");
            assert_eq!(verdict(text, password), Some(true), "{text}");
            for other in [format!("{password}x"), password.to_uppercase() + " ", format!("{password}\0")] {
                assert_eq!(verdict(text, &other), Some(false), "{text} {other:?}");
            }
        }
    }

    #[test]
    fn req_163_bcrypt_reads_72_bytes_and_no_nul() {
        // `crypt` of Debian's libcrypt, of 72 times `x` and `tail`.
        let stored = format!("{BCRYPT}bzadhGtS2zEF.gu0yd0opP6cVzb.e0i");
        let x = "x".repeat(72);
        for (password, fits) in [
            (x.clone(), true),
            (format!("{x}tail"), true),
            (format!("{x}other"), true),
            (x[..71].to_owned(), false),
            (format!("{}y", &x[..71]), false),
            (format!("{x}\0"), false),
        ] {
            assert_eq!(verdict(&stored, &password), Some(fits), "{password:?}");
        }
    }

    #[test]
    fn req_169_what_other_hashes_ask_for_has_a_ceiling() {
        let (salt, output) = ("c29tZXNhbHRzYWx0c2FsdA", "Ybw8zsFxqja97tY/o6G+Fy1ksY4U/Hw3DRrGED6Up4s");
        let bcrypt = |head: &str| format!("{head}abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e");
        for (text, read) in [
            (bcrypt("$2b$04$"), true),
            (bcrypt("$2y$16$"), true),
            (bcrypt("$2b$03$"), false),
            (bcrypt("$2b$17$"), false),
            (bcrypt("$2b$31$"), false),
            (bcrypt("$2b$4$"), false),
            (bcrypt("$2x$04$"), false),
            (bcrypt("$2b$04$x"), false),
            (bcrypt("$2b$04$").replace('/', "é"), false),
            (bcrypt("$2b$04$").replace('/', "="), false),
            (format!("pbkdf2_sha256$10000000$salt${output}="), true),
            (format!("pbkdf2_sha256$10000001$salt${output}="), false),
            (format!("pbkdf2_sha256$99999999999999999999$salt${output}="), false),
            (format!("pbkdf2_sha256$+1000$salt${output}="), false),
            (format!("pbkdf2_sha256$0$salt${output}="), false),
            (format!("pbkdf2_sha256$1000$${output}="), false),
            (format!("pbkdf2_sha256$1000$salt${output}"), false),
            (format!("pbkdf2_sha256$1000${}${output}=", "s".repeat(65)), false),
            ("pbkdf2_sha256$1000$salt$".to_owned(), false),
            ("pbkdf2_sha256$1000$salt$AAAA".to_owned(), false),
            (format!("pbkdf2_sha256$1000$salt${}", "A".repeat(400)), false),
            ("$".repeat(1_000_000), false),
            (format!("$pbkdf2-sha256$i=1000,l=31${salt}${output}"), false),
            (format!("$pbkdf2-sha256$i=20000000${salt}${output}"), false),
            (format!("$scrypt$ln=18,r=7,p=1${salt}${output}"), true),
            (format!("$scrypt$ln=18,r=8,p=1${salt}${output}"), false),
            (format!("$scrypt$ln=63,r=8,p=1${salt}${output}"), false),
            (format!("$scrypt$ln=64,r=8,p=1${salt}${output}"), false),
            (format!("$scrypt$ln=14,r=8,p=160${salt}${output}"), true),
            (format!("$scrypt$ln=14,r=8,p=161${salt}${output}"), false),
            (format!("$scrypt$ln=1,r=1,p=4000000${salt}${output}"), false),
            (format!("$scrypt$ln=0,r=8,p=1${salt}${output}"), false),
            (format!("$scrypt$ln=14,r=0,p=1${salt}${output}"), false),
            (format!("$scrypt$ln=14,r=8,p=1,x=1${salt}${output}"), false),
            (format!("scrypt$16384$salt$8$1${output}="), true),
            (format!("scrypt$16383$salt$8$1${output}="), false),
            (format!("scrypt$0$salt$8$1${output}="), false),
            (format!("scrypt$4294967296$salt$8$1${output}="), false),
        ] {
            assert_eq!(LegacyHash::read(&text).is_some(), read, "{text}");
        }
    }
}
