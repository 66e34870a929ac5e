//! When a signing key is published, signs, and goes: decided from the moments that the store keeps and the time alone, so that
//! machines that share a store agree without a word.
//!
//! A key is published before it signs for as long as others may go on using a key set that they have fetched, and stays
//! published after it has signed for as long as its tokens live.

use std::time::Duration;

use crate::clock::UnixSeconds;

/// How long each part of a key's life lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Periods {
    /// From being published to signing.
    pub(super) prepublish: Duration,
    /// From signing to the next one's signing.
    pub(super) rotate: Duration,
    /// From the next one's signing to the end.
    pub(super) retire: Duration,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Others learn of it; it signs nothing.
    Prepublished,
    /// It signs.
    Active,
    /// What it has signed is still good; it signs nothing more.
    Retiring,
    /// Nothing that it has signed is good any more.
    Gone,
}

/// The phase of each key, by the moments from which on they sign. Of two of one moment the later in the list follows.
pub(super) fn phases(active_at: &[UnixSeconds], retire: Duration, now: UnixSeconds) -> Vec<Phase> {
    let order = |place: usize| active_at.get(place).map(|moment| (*moment, place));
    let active = (0..active_at.len()).filter_map(order).filter(|(moment, _)| *moment <= now).max();
    let phase = |place| {
        let own = order(place);
        let successor = (0..active_at.len()).filter_map(order).filter(|other| Some(*other) > own).min();
        match own {
            _ if own == active => Phase::Active,
            Some((moment, _)) if moment > now => Phase::Prepublished,
            _ => match successor {
                Some((moment, _)) if now >= moment.saturating_add(retire) => Phase::Gone,
                _ => Phase::Retiring,
            },
        }
    };
    (0..active_at.len()).map(phase).collect()
}

/// Whether it is time to publish another key, and from when on it is to sign. `newest` is the moment from which on the last
/// one does; `unfit` says that it is not to sign for longer than it must.
pub(super) fn next(newest: UnixSeconds, unfit: bool, periods: Periods, now: UnixSeconds) -> Option<UnixSeconds> {
    if newest > now {
        return None;
    }
    let soonest = now.saturating_add(periods.prepublish);
    let due = if unfit { now } else { newest.saturating_add(periods.rotate) };
    (soonest >= due).then(|| soonest.max(due))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIODS: Periods = Periods {
        prepublish: Duration::from_secs(100),
        rotate: Duration::from_secs(1000),
        retire: Duration::from_secs(50),
    };

    fn at(seconds: u64) -> UnixSeconds {
        UnixSeconds::new(seconds)
    }

    #[test]
    fn a_life() {
        use Phase::{Active, Gone, Prepublished, Retiring};
        for (now, expected) in [
            (0, [Active, Prepublished, Prepublished]),
            (999, [Active, Prepublished, Prepublished]),
            (1000, [Retiring, Active, Prepublished]),
            (1049, [Retiring, Active, Prepublished]),
            (1050, [Gone, Active, Prepublished]),
            (2000, [Gone, Retiring, Active]),
            (2050, [Gone, Gone, Active]),
            (999_999, [Gone, Gone, Active]),
        ] {
            assert_eq!(phases(&[at(0), at(1000), at(2000)], PERIODS.retire, at(now)), expected, "{now}");
        }
        assert_eq!(phases(&[at(5), at(5)], PERIODS.retire, at(5)), [Retiring, Active], "of one moment");
        assert_eq!(phases(&[at(5)], PERIODS.retire, at(4)), [Prepublished]);
    }

    #[test]
    fn when_another_is_published() {
        for (newest, unfit, now, expected) in [
            (0, false, 899, None),
            (0, false, 900, Some(1000)),
            (0, false, 950, Some(1050)),
            (0, false, 5000, Some(5100)),
            (1000, false, 950, None),
            (1000, true, 950, None),
            (0, true, 10, Some(110)),
        ] {
            assert_eq!(next(at(newest), unfit, PERIODS, at(now)), expected.map(at), "{newest} {unfit} {now}");
        }
    }

    proptest! {
        /// However late each step is taken: at every moment one key signs, it has been published for long enough, and nothing
        /// that is still good was signed with a key that is gone.
        #[test]
        fn no_token_is_ever_without_its_key(steps in proptest::collection::vec(1_u64..700, 1..60)) {
            let mut keys = vec![at(0)];
            let mut published = vec![0];
            let mut signed: Vec<(u64, usize)> = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                if let Some(active) = next(keys[keys.len() - 1], false, PERIODS, at(now)) {
                    keys.push(active);
                    published.push(now);
                }
                let phases = phases(&keys, PERIODS.retire, at(now));
                let active: Vec<usize> = (0..keys.len()).filter(|place| phases[*place] == Phase::Active).collect();
                prop_assert_eq!(active.len(), 1);
                let active = active[0];
                prop_assert!(active == 0 || now >= published[active] + PERIODS.prepublish.as_secs());
                signed.push((now, active));
                // A token lives for as long as a key retires.
                for (issued, key) in signed.iter().filter(|(issued, _)| now < issued + PERIODS.retire.as_secs()) {
                    prop_assert!(phases[*key] != Phase::Gone, "{} issued at {}", key, issued);
                }
            }
        }
    }
}
