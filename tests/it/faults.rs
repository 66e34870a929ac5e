//! Faults around a whole program: what its clients see, that nothing is lost of which they were told, that nobody is let in.
//!
//! Each test starts `auth_server` as a process, lets clients and attackers use it all the time, and prints its line of the table in
//! the guide: `cargo test --test it -- --nocapture faults::`.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "told to whoever runs them: the table, and what is skipped"
)]

mod clock;
mod crowd;
mod descriptors;
mod disk;
mod keys;
mod killed;
mod ledger;
mod program;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;

use std::time::Duration;

use self::{
    crowd::Crowd,
    ledger::{Asks, Phase},
    program::Program,
};

const SECOND: Duration = Duration::from_secs(1);

/// The program with these variables beside those of the crowd.
fn prepare(name: &str, more: &[(&str, &str)]) -> Program {
    let common = crowd::variables();
    let common = common.iter().map(|(name, value)| (*name, value.as_str()));
    Program::prepare(name, &common.chain(more.iter().copied()).collect::<Vec<_>>())
}

fn start(name: &str, more: &[(&str, &str)]) -> Program {
    let mut program = prepare(name, more);
    program.begin();
    program
}
