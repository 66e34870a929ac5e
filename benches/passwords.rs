//! How fast passwords are hashed: `cargo bench --bench passwords`, beside the reference implementation if its `argon2` is
//! installed.
//!
//! Those that are compared take turns, so that a noisy neighbour meets all alike; the figure is the least time.
#![allow(missing_docs, clippy::cast_precision_loss, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Params, Version};
use portcullis::{
    password::{Argon2Params, PasswordHasher},
    secret::Secret,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

const TURNS: usize = 60;
const PASSWORD: &str = "correct-horse-battery-staple";

/// Memory in KiB and passes over it.
const SETS: [(u32, u32); 2] = [(19_456, 2), (47_104, 1)];

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn hasher(memory: u32, passes: u32, threads: usize) -> PasswordHasher {
    let params = Argon2Params::new(memory, passes, 1).unwrap();
    PasswordHasher::builder().params(params).concurrency(threads).build().unwrap()
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e3
}

/// One run of the reference implementation's program: how long it takes in all, and what it says that hashing took.
fn reference(memory: u32, passes: u32) -> Option<(f64, f64)> {
    let begin = Instant::now();
    let mut child = Command::new("argon2")
        .args(["somesaltsomesalt", "-id", "-p", "1", "-k", &memory.to_string(), "-t", &passes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(PASSWORD.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let all = begin.elapsed().as_secs_f64() * 1e3;
    let told = String::from_utf8(output.stdout).ok()?;
    let seconds = told.lines().find_map(|line| line.strip_suffix(" seconds"))?;
    // It hashes once, and then once more to verify: the program takes twice what it says.
    Some((all, seconds.parse::<f64>().ok()? * 1e3))
}

fn beside_others(memory: u32, passes: u32) {
    let (runtime, kept) = (runtime(), hasher(memory, passes, 1));
    let params = Params::new(memory, passes, 1, None).unwrap();
    let fresh = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut least = [f64::MAX; 5];
    let mut keep = |at: usize, time: f64| {
        if let Some(least) = least.get_mut(at) {
            *least = least.min(time);
        }
    };
    for _ in 0..TURNS {
        let hash = || drop(runtime.block_on(kept.hash(Secret::from(PASSWORD))).unwrap());
        keep(0, milliseconds(hash));
        let mut output = [0; 32];
        let hash = || fresh.hash_password_into(PASSWORD.as_bytes(), b"somesaltsomesalt", &mut output).unwrap();
        keep(1, milliseconds(hash));
        if let (Some((all, told)), Some((start, _))) = (reference(memory, passes), reference(8, 1)) {
            keep(2, all);
            keep(3, told);
            keep(4, start);
        }
    }
    let [kept, fresh, all, told, start] = least;
    println!("\nm={memory} KiB, t={passes}, p=1{:18} {:>8} {:>6}", "", "ms", "ratio");
    println!("{:40} {kept:8.2} {:6.3}", "in the pool, with memory that is kept", 1.0);
    println!("{:40} {fresh:8.2} {:6.3}", "the same code, with memory for each", kept / fresh);
    if told < f64::MAX {
        let once = (all - start) / 2.0;
        println!("{:40} {told:8.2} {:6.3}", "libargon2, as its program says", kept / told);
        println!("{:40} {once:8.2} {:6.3}", "libargon2, half of its program's time", kept / once);
    } else {
        println!("no `argon2` to compare with: it is in Debian's package of that name");
    }
}

fn with_callers(callers: usize) {
    const WINDOW: Duration = Duration::from_secs(3);
    let runtime = runtime();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let hasher = hasher(19_456, 2, threads);
    let begin = Instant::now();
    let done = runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..callers {
            let hasher = hasher.clone();
            calls.spawn(async move {
                let mut count = 0_u32;
                while begin.elapsed() < WINDOW {
                    hasher.hash(Secret::from(PASSWORD)).await.unwrap();
                    count += 1;
                }
                count
            });
        }
        calls.join_all().await.into_iter().sum::<u32>()
    });
    println!(
        "{callers} callers, {threads} threads: {:6.1} hashes per second",
        f64::from(done) / begin.elapsed().as_secs_f64()
    );
}

fn main() {
    for (memory, passes) in SETS {
        beside_others(memory, passes);
    }
    println!();
    for callers in [1, 2, 4] {
        with_callers(callers);
    }
}
