//! In the place of `quick_cache` while something is proved: a lock around the tokens. What is kept is found by all until it is
//! removed, replaced or pushed out; of that nothing is proved.

use std::collections::HashMap;

use super::{Token, Verified, Weight};
use crate::sync::Mutex;

pub(super) struct Tokens<C>(Mutex<HashMap<Box<[u8]>, Verified<C>>>);

pub(super) fn in_shards<C>(_: usize, _: u64, _: Weight) -> Tokens<C> {
    Tokens(Mutex::default())
}

impl<C> Tokens<C> {
    pub(super) fn insert(&self, Token(token): Token<Box<[u8]>>, verified: Verified<C>) {
        self.0.lock().unwrap().insert(token, verified);
    }

    pub(super) fn get(&self, Token(token): &Token<&[u8]>) -> Option<Verified<C>> {
        self.0.lock().unwrap().get(*token).cloned()
    }

    pub(super) fn remove(&self, Token(token): &Token<&[u8]>) {
        self.0.lock().unwrap().remove(*token);
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(super) fn weight(&self) -> u64 {
        0
    }
}
