//! What clients of a program saw before, during and after a fault, and what they found wrong.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::support::Reply;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    Before,
    During,
    After,
}

/// What an honest client asks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Asks {
    /// A route that looks at the token alone.
    Token,
    /// A route that reads its user as well.
    User,
    Refresh,
    SignIn,
    SignOut,
    Register,
    Password,
}

impl Asks {
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token route",
            Self::User => "user route",
            Self::Refresh => "refresh",
            Self::SignIn => "sign-in",
            Self::SignOut => "sign-out",
            Self::Register => "registration",
            Self::Password => "password",
        }
    }
}

/// A status, or 0 for no answer.
type Status = u16;

/// A session that is over, as far as its owner was told, or a token that was called back.
#[derive(Clone, Debug)]
pub struct Ended {
    pub refresh: Option<String>,
    pub access: Vec<String>,
}

pub struct Ledger(Mutex<State>);

struct State {
    phase: Phase,
    seen: BTreeMap<(Phase, Asks, Status), u32>,
    slowest: BTreeMap<Phase, Duration>,
    /// When the fault was over, and when something last went wrong after that.
    over: Option<Instant>,
    last_trouble: Option<Instant>,
    /// What was acknowledged, and what of that is not so.
    facts: u32,
    lost: Vec<String>,
    /// What was tried by those who may not, and which of it they were let do.
    attempts: u32,
    let_in: Vec<String>,
    odd: Vec<String>,
    ended: Vec<Ended>,
}

impl Ledger {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            phase: Phase::Before,
            seen: BTreeMap::new(),
            slowest: BTreeMap::new(),
            over: None,
            last_trouble: None,
            facts: 0,
            lost: Vec::new(),
            attempts: 0,
            let_in: Vec::new(),
            odd: Vec::new(),
            ended: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        state.over = (phase == Phase::After).then(Instant::now);
        state.last_trouble = None;
    }

    /// Notes an honest client's answer, and returns its status, 0 if there was none.
    pub fn note(&self, asks: Asks, reply: Option<&Reply>, took: Duration) -> Status {
        let status = reply.map_or(0, |reply| reply.status);
        let mut state = self.state();
        let phase = state.phase;
        *state.seen.entry((phase, asks, status)).or_default() += 1;
        let slowest = state.slowest.entry(phase).or_default();
        *slowest = took.max(*slowest);
        if matches!(status, 0 | 503) {
            state.last_trouble = Some(Instant::now());
        }
        if status == 503 && reply.is_some_and(|reply| reply.header("retry-after").is_none()) {
            state.odd.push(format!("{asks:?}: 503 without Retry-After"));
        }
        status
    }

    /// Something is so from now on.
    pub fn acknowledged(&self) {
        self.state().facts += 1;
    }

    /// How much is acknowledged.
    pub fn facts(&self) -> u32 {
        self.state().facts
    }

    /// Something that was acknowledged is not so.
    pub fn lost(&self, what: String) {
        self.state().lost.push(what);
    }

    /// An answer that nobody should get, whatever else happens.
    pub fn odd(&self, what: String) {
        self.state().odd.push(what);
    }

    pub fn ended(&self, ended: Ended) {
        let mut state = self.state();
        state.facts += 1;
        state.ended.push(ended);
    }

    /// One of those that are over.
    pub fn one_ended(&self, random: usize) -> Option<Ended> {
        let state = self.state();
        state.ended.get(random % state.ended.len().max(1)).cloned()
    }

    pub fn all_ended(&self) -> Vec<Ended> {
        self.state().ended.clone()
    }

    /// Somebody tried what they may not.
    pub fn attempt(&self, what: &str, reply: Option<&Reply>) {
        let mut state = self.state();
        state.attempts += 1;
        let phase = state.phase;
        match reply {
            Some(reply) if reply.status < 400 => state.let_in.push(format!("{phase:?}: {what}: {reply:?}")),
            Some(reply) if matches!(reply.status, 400 | 401 | 429 | 503) => {}
            Some(reply) => state.odd.push(format!("{phase:?}: {what}: {reply:?}")),
            None => {}
        }
    }

    /// How often such an answer came in a phase.
    pub fn count(&self, phase: Phase, asks: &[Asks], status: Status) -> u32 {
        let state = self.state();
        asks.iter().map(|asks| state.seen.get(&(phase, *asks, status)).copied().unwrap_or(0)).sum()
    }

    /// The slowest honest answer of a phase.
    pub fn slowest(&self, phase: Phase) -> Duration {
        self.state().slowest.get(&phase).copied().unwrap_or_default()
    }

    /// How long after the end of the fault something last went wrong.
    pub fn recovery(&self) -> Duration {
        let state = self.state();
        state.last_trouble.zip(state.over).map_or(Duration::ZERO, |(last, over)| last.saturating_duration_since(over))
    }

    /// Fails if something was lost, or somebody was let in; tells all of it in the form of the guide's table.
    pub fn told(&self, fault: &str, test: &str) {
        let seen = self.seen();
        let (slowest, recovery) = (self.slowest(Phase::During), self.recovery());
        let state = self.state();
        println!(
            "| {fault} | {seen}; slowest {:.1} s; well after {:.1} s | {} of {} | {} of {} | `{test}` |",
            slowest.as_secs_f64(),
            recovery.as_secs_f64(),
            state.lost.len(),
            state.facts,
            state.let_in.len(),
            state.attempts,
        );
        assert!(state.let_in.is_empty(), "let in: {:#?}", state.let_in);
        assert!(state.lost.is_empty(), "lost: {:#?}", state.lost);
        assert!(state.odd.is_empty(), "odd: {:#?}", state.odd);
        assert!(state.facts > 20 && state.attempts > 50, "{} facts, {} attempts", state.facts, state.attempts);
    }

    /// What honest clients saw during the fault.
    fn seen(&self) -> String {
        let state = self.state();
        let mut told = BTreeMap::<Asks, String>::new();
        for ((_, asks, status), count) in state.seen.iter().filter(|((phase, ..), _)| *phase == Phase::During) {
            let text = told.entry(*asks).or_default();
            let _ = match status {
                0 => write!(text, " none ×{count}"),
                status => write!(text, " {status} ×{count}"),
            };
        }
        let told: Vec<_> = told.into_iter().map(|(asks, text)| format!("{}{text}", asks.name())).collect();
        told.join(", ")
    }
}
