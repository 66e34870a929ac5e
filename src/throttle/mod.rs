//! How many attempts there may be, as pure decisions: a rate for whoever asks, and a lock for whoever is asked about.

mod lockout;
mod quota;

#[cfg(feature = "redis")]
pub(crate) use self::lockout::REMEMBERED;
pub use self::{
    lockout::{Begun, Failures, Lockout},
    quota::{Counted, Quota, Taken},
};

/// What attempts are counted under: a keyed digest, of one width whatever it was made of, that says neither address nor name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AttemptKey {
    /// What kind of thing it was made of. Kinds are counted apart.
    pub kind: Limit,
    /// The digest.
    pub digest: [u8; 16],
}

/// What is limited. The numbers are in digests, and stay.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// Attempts from one address, or one network of IPv6.
    Address = 1,
    /// Attempts from one address on one account.
    Pair = 2,
    /// All attempts.
    Overall = 3,
    /// Failures on one account, by whoever is not known there.
    Account = 4,
    /// Failures of one device on an account where it has signed in before.
    Device = 5,
    /// New accounts from one address.
    Registration = 6,
    /// Turns of an account's known devices before strangers. Beyond it they wait with them.
    Turn = 7,
}

impl Limit {
    /// What an audit event says of it, which clients are not told.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Address => "too_many_of_address",
            Self::Pair => "too_many_of_address_on_account",
            Self::Overall => "too_many",
            Self::Account => "account_locked",
            Self::Device => "device_locked",
            Self::Registration => "too_many_registrations",
            Self::Turn => "too_many_turns",
        }
    }

    /// Name of the policy in `RateLimit` fields. A device's own limit has the account's name: it is nobody's business which it was.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Pair => "address-account",
            Self::Overall => "overall",
            Self::Account | Self::Device => "account",
            Self::Registration => "registration",
            Self::Turn => "turn",
        }
    }
}
