//! What a decision on a login costs, beside `governor`'s: `cargo bench --bench limits`. Time of one attempt by address and
//! account together at a million keys of each, and memory for a key.
#![allow(
    missing_docs,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::needless_for_each,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

use std::{
    fs,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    num::NonZero,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use governor::{DefaultKeyedRateLimiter, Quota as Known};
use portcullis::{
    client_ip::ClientIp,
    login::{Lockout, LoginLimiter, LoginOutcome, Quota, Who},
};

const KEYS: u32 = 1_000_000;
const ROUND: u32 = 100_000;

fn main() {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + number));
    // The same walk for all: each key once, far from the one before in any table. The names lie in its order, because a request
    // has brought its own.
    let walk = (0..KEYS).map(|at| u32::try_from(u64::from(at) * 611_953 % u64::from(KEYS)).unwrap());
    let order: Vec<(u32, String)> = walk.map(|number| (number, format!("user{number:07}@example.com"))).collect();

    let before = resident();
    let most = NonZero::new(30).unwrap();
    let known = Known::per_hour(NonZero::new(1).unwrap()).allow_burst(most);
    let addresses = DefaultKeyedRateLimiter::<IpAddr>::dashmap(known);
    let accounts = DefaultKeyedRateLimiter::<String>::dashmap(known);
    let check = |(number, name): &(u32, String)| {
        black_box(addresses.check_key(&address(*number)).is_ok() && accounts.check_key(name).is_ok());
    };
    order.iter().for_each(check);
    let theirs = (resident() - before) as f64 / f64::from(2 * KEYS);

    let before = resident();
    let limiter = LoginLimiter::builder().per_address(Quota::new(30, Duration::from_secs(24 * 3600)));
    let limiter = limiter.per_account(Lockout::default().free(30)).build().unwrap();
    let begin = |(number, name): &(u32, String)| {
        let who = Who { address: Some(ClientIp(address(*number))), account: Some(name), ..Who::default() };
        limiter.begin(who).now_or_never().unwrap()
    };
    order.iter().for_each(|asked| drop(begin(asked)));
    let ours = (resident() - before) as f64 / f64::from(2 * KEYS);

    let mut least = [f64::MAX; 3];
    for round in order.chunks(ROUND as usize).cycle().take(30) {
        let mut time = |at: usize, call: &dyn Fn(&(u32, String))| {
            let begun = Instant::now();
            round.iter().for_each(call);
            least[at] = least[at].min(begun.elapsed().as_nanos() as f64 / f64::from(ROUND));
        };
        time(0, &check);
        time(1, &|asked| drop(black_box(begin(asked))));
        time(2, &|asked| {
            if let Ok(attempt) = begin(asked) {
                black_box(attempt.settle(LoginOutcome::NotTried).now_or_never());
            }
        });
    }
    println!("at {KEYS} addresses and {KEYS} accounts, least of 30 rounds of {ROUND}:");
    println!("| | address and account | bytes a key |\n|---|---|---|");
    println!("| governor, address and text | {:.0} ns | {theirs:.0} |", least[0]);
    println!("| begun | {:.0} ns | {ours:.0} |", least[1]);
    println!("| begun and taken back | {:.0} ns | |", least[2]);
}

/// Bytes of memory in use, where the system tells them.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default() * 4096
}
