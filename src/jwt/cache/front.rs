//! A thread's own copies of the tokens that it sees all the time.

/// A few entries, each in the place that its token's end gives it.
pub(super) struct Front<V>(Box<[Slot<V>]>);

struct Slot<V> {
    entry: Option<(Box<[u8]>, V)>,
    /// What was last looked for here in vain, and how many times in a row.
    wanted: u64,
    times: u8,
}

/// Looks in vain, with none for another token in between, that make an entry worth a copy.
const WORTH_A_COPY: u8 = 8;

impl<V> Front<V> {
    pub(super) fn new(slots: usize) -> Self {
        Self(std::iter::repeat_with(|| Slot { entry: None, wanted: 0, times: 0 }).take(slots).collect())
    }

    pub(super) fn get(&mut self, token: &[u8]) -> Option<&V> {
        let slot = self.slot(token)?;
        let (_, value) = slot.entry.as_ref().filter(|(kept, _)| **kept == *token)?;
        // While it is in use, another one has to go without: making copies in turns would cost more than it saves.
        slot.times = 0;
        Some(value)
    }

    /// Counts a look in vain. Whether there have been enough of them.
    pub(super) fn is_worth_a_copy(&mut self, token: &[u8]) -> bool {
        let Some(slot) = self.slot(token) else { return false };
        let wanted = end(token);
        slot.times = if slot.wanted == wanted { slot.times.saturating_add(1) } else { 1 };
        slot.wanted = wanted;
        slot.times >= WORTH_A_COPY
    }

    pub(super) fn insert(&mut self, token: &[u8], value: V) {
        if let Some(slot) = self.slot(token) {
            *slot = Slot { entry: Some((token.into(), value)), wanted: 0, times: 0 };
        }
    }

    pub(super) fn remove(&mut self, token: &[u8]) {
        if let Some(slot) = self.slot(token) {
            slot.entry.take_if(|(kept, _)| **kept == *token);
        }
    }

    fn slot(&mut self, token: &[u8]) -> Option<&mut Slot<V>> {
        let place = self.place(token)?;
        self.0.get_mut(place)
    }

    fn place(&self, token: &[u8]) -> Option<usize> {
        // Multiplied by 2^64 over the golden ratio, so that each character has a say in the upper half (Knuth 6.4).
        let mixed = end(token).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(mixed.checked_rem(self.0.len() as u64)?).ok()
    }
}

/// A token's last characters: of its signature, which no two good tokens share.
fn end(token: &[u8]) -> u64 {
    token.last_chunk().map_or(0, |end| u64::from_le_bytes(*end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_and_again_gets_a_copy() {
        let mut front = Front::new(1);
        for _ in 1..WORTH_A_COPY {
            assert!(!front.is_worth_a_copy(b"header.claims.signature-1"));
        }
        assert!(!front.is_worth_a_copy(b"header.claims.signature-2"), "another one begins anew");
        for _ in 1..WORTH_A_COPY {
            assert!(!front.is_worth_a_copy(b"header.claims.signature-1"));
        }
        assert!(front.is_worth_a_copy(b"header.claims.signature-1"));
        front.insert(b"header.claims.signature-1", 1);
        for _ in 0..100 {
            assert_eq!(front.get(b"header.claims.signature-1"), Some(&1));
            assert_eq!(front.get(b"header.claims.signature-2"), None);
            assert!(!front.is_worth_a_copy(b"header.claims.signature-2"), "two in turns do not push each other out");
        }
        for other in [&b"header.others.signature-1"[..], b"signature-1", b""] {
            assert_eq!(front.get(other), None, "every byte is compared");
            front.remove(other);
        }
        assert_eq!(front.get(b"header.claims.signature-1"), Some(&1));
        front.remove(b"header.claims.signature-1");
        assert_eq!(front.get(b"header.claims.signature-1"), None);
    }

    #[test]
    fn without_slots_nothing_is_kept() {
        let mut front = Front::new(0);
        front.insert(b"header.claims.signature", 1);
        assert!(front.get(b"header.claims.signature").is_none() && !front.is_worth_a_copy(b"header.claims.signature"));
    }
}
