//! Where all threads find the tokens that one of them has verified.

use quick_cache::{DefaultHashBuilder, OptionsBuilder, sync::DefaultLifecycle};

use super::{Striped, Token, Verified, Weight};

pub(super) type Tokens<C> = quick_cache::sync::Cache<Token<Box<[u8]>>, Verified<C>, Weight>;

/// The least that a part with a lock of its own has room for: the longest token that any policy allows, and its claims.
const SHARD: u64 = 128 * 1024;

/// In so many parts as there would be, but that none is too small for a long token: it would never be kept, and nobody told.
pub(super) fn in_shards<C>(entries: usize, bytes: u64, weight: Weight) -> Tokens<C> {
    let shards = usize::try_from(bytes / SHARD).unwrap_or(usize::MAX).clamp(1, 4 * Striped::<()>::count());
    // Rounded down, because the number becomes a power of two.
    let shards = 1 << shards.ilog2();
    let options = OptionsBuilder::new().estimated_items_capacity(entries).weight_capacity(bytes).shards(shards).build();
    match options {
        Ok(options) => {
            Tokens::with_options(options, weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
        }
        Err(_) => Tokens::with_weighter(entries, bytes, weight),
    }
}
