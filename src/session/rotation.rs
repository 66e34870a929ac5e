//! The decision behind a refresh: which member of its session's family is this token, and what follows.

use std::time::Duration;

use super::digest::TokenDigest;
use crate::clock::UnixSeconds;

/// What a store knows of a session's tokens when one of them is presented.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The one that is good.
    pub current: TokenDigest,
    /// The one before it, and when it was turned into the current one.
    pub previous: Option<(TokenDigest, UnixSeconds)>,
    /// When the session ends if it is not used before.
    pub ends_at: UnixSeconds,
}

/// What is to be done with a token that was presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It is the current one: turn it into its successor.
    Turn,
    /// It has just been turned, and whoever asked may not have heard: give the same successor again.
    Again,
    /// It is not the current one. If it was once, somebody has kept it: revoke the session. Else nobody knows it.
    LookAmongSpent,
    /// The session is over; nothing can bring it back.
    Ended,
}

/// What a token is to a session that has not ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The one that is good.
    Current,
    /// It was good once, and was turned.
    Spent,
    /// It never was one of this session's.
    Foreign,
}

impl Family {
    /// Whether the session is over as of `now`.
    pub fn has_ended(&self, now: UnixSeconds) -> bool {
        now >= self.ends_at
    }

    /// Decides as of `now`. `grace` is how long a token may be presented again after it was turned.
    pub fn decide(&self, presented: &TokenDigest, grace: Duration, now: UnixSeconds) -> Step {
        if self.has_ended(now) {
            return Step::Ended;
        }
        match self.previous {
            _ if *presented == self.current => Step::Turn,
            // Whole seconds: what was turned in this one is within any grace but none. And with none, whoever is a second behind,
            // because their clock is or because they asked just before it struck, is not within it either.
            Some((previous, turned))
                if *presented == previous && !grace.is_zero() && now < turned.saturating_add(grace) =>
            {
                Step::Again
            }
            _ => Step::LookAmongSpent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn req_046_req_055_req_057_what_a_token_of_a_family_is_worth() {
        let digest = |n: u8| TokenDigest::from_bytes([n; 32]);
        let at = UnixSeconds::new;
        let family = Family { current: digest(3), previous: Some((digest(2), at(1000))), ends_at: at(2000) };
        let fresh = Family { previous: None, ..family };
        for (family, presented, grace, now, expected) in [
            (&family, 3, 0, 1000, Step::Turn),
            (&family, 3, 0, 1999, Step::Turn),
            (&family, 3, 0, 2000, Step::Ended),
            (&family, 2, 10, 1000, Step::Again),
            (&family, 2, 10, 1009, Step::Again),
            (&family, 2, 10, 1010, Step::LookAmongSpent),
            (&family, 2, 0, 1000, Step::LookAmongSpent),
            (&family, 2, 0, 999, Step::LookAmongSpent),
            (&family, 2, 0, 1, Step::LookAmongSpent),
            // A clock that was set back does not lengthen anything for long: the grace is counted from the turn.
            (&family, 2, 10, 900, Step::Again),
            (&family, 2, 10, 2000, Step::Ended),
            (&family, 1, 10, 1000, Step::LookAmongSpent),
            (&family, 9, 10, 1000, Step::LookAmongSpent),
            (&family, 9, 10, 2000, Step::Ended),
            (&fresh, 3, 10, 1000, Step::Turn),
            (&fresh, 2, 10, 1000, Step::LookAmongSpent),
        ] {
            let step = family.decide(&digest(presented), Duration::from_secs(grace), at(now));
            assert_eq!(step, expected, "{presented} grace {grace} at {now}");
        }
    }
}
