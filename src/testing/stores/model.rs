//! Random calls, whose outcomes a model predicts: what [`Family::decide`] says, around it the simplest bookkeeping there is.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Start, answered, called_back, conflicts, digest, number, sealed, session, session_id, turn, unique};
use crate::{
    clock::UnixSeconds,
    ident::SessionId,
    session::{Family, SessionRecord, Standing, Step, TokenDigest},
    store::{NewSession, Rotated, Rotation, SessionStore},
};

const CALLS: u32 = 250;

struct Known {
    record: SessionRecord,
    family: Family,
    /// What the current token is sealed as, and every number that was a token of this session once.
    current: u64,
    spent: Vec<u64>,
}

impl Known {
    fn new(new: &NewSession) -> Self {
        let family = Family { current: new.digest, previous: None, ends_at: new.ends_at };
        Self { record: new.session.clone(), family, current: 0, spent: Vec::new() }
    }

    fn is_spent(&self, token: &TokenDigest) -> bool {
        self.spent.iter().any(|spent| digest(*spent) == *token)
    }

    fn standing(&self, token: u64) -> Standing {
        match digest(token) {
            token if token == self.family.current => Standing::Current,
            token if self.is_spent(&token) => Standing::Spent,
            _ => Standing::Foreign,
        }
    }

    /// What is to come of it; `None` in the last place if the session is to end.
    fn rotate(&mut self, rotation: &Rotation, successor: u64) -> (Rotated, bool) {
        match self.family.decide(&rotation.presented, rotation.grace, rotation.now) {
            Step::Turn => {
                self.spent.push(self.current);
                self.current = successor;
                let previous = Some((rotation.presented, rotation.now));
                self.family = Family { current: rotation.successor, previous, ends_at: rotation.ends_at };
                self.record.last_used = rotation.now;
                (Rotated::Turned, true)
            }
            Step::Again => (Rotated::Again(sealed(self.current)), true),
            Step::LookAmongSpent if self.is_spent(&rotation.presented) => (Rotated::Reused, false),
            Step::LookAmongSpent | Step::Ended => (Rotated::Unknown, true),
        }
    }
}

/// A run of random calls on a few sessions of one subject; time only goes forward.
struct Run<'a> {
    store: &'a dyn SessionStore,
    subject: String,
    start: Start,
    seconds: u64,
    sessions: HashMap<SessionId, Known>,
    /// Of sessions that are over or never were.
    strangers: Vec<SessionId>,
    /// What was done, for whoever looks into a failure.
    log: Vec<String>,
}

pub(super) async fn agrees(store: &dyn SessionStore, start: Start) {
    let (subject, strangers) = (format!("model:{}", unique()), vec![session_id()]);
    let mut run = Run { store, subject, start, seconds: 0, sessions: HashMap::new(), strangers, log: Vec::new() };
    for call in 0..CALLS {
        run.seconds += pick(&[0, 0, 0, 1, 1, 2, 4]);
        run.call(u64::from(call) + 1).await;
    }
    run.ends_all(None).await;
}

fn pick<T: Copy>(from: &[T]) -> T {
    let at = usize::try_from(number() % (from.len().max(1) as u64)).unwrap_or(0);
    from.get(at).copied().unwrap_or_else(|| panic!("nothing to pick from"))
}

impl Run<'_> {
    fn now(&self) -> UnixSeconds {
        self.start.at(self.seconds)
    }

    fn live(&self) -> impl Iterator<Item = &Known> {
        let now = self.now();
        self.sessions.values().filter(move |known| !known.family.has_ended(now))
    }

    fn some_id(&self) -> SessionId {
        let known: Vec<_> = self.sessions.keys().copied().collect();
        if known.is_empty() || number().is_multiple_of(16) { pick(&self.strangers) } else { pick(&known) }
    }

    /// The current token, the one before it, an older one, or one that the session never had.
    fn some_token(&self, id: SessionId, foreign: u64) -> u64 {
        let Some(known) = self.sessions.get(&id) else { return foreign };
        let older = known.spent.first().copied().unwrap_or(foreign);
        let last = known.spent.last().copied().unwrap_or(foreign);
        pick(&[known.current, known.current, known.current, known.current, last, last, last, older, foreign, foreign])
    }

    async fn call(&mut self, number_of_call: u64) {
        let foreign = 1_000_000 + number_of_call;
        match pick(&[0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4, 5, 6]) {
            0 => self.creates().await,
            1 => self.rotates(foreign, number_of_call).await,
            2 => self.looks(foreign).await,
            3 => self.finds().await,
            4 => self.lists().await,
            5 if number().is_multiple_of(4) => self.revokes().await,
            6 if number().is_multiple_of(8) => self.ends_all(Some(self.some_id())).await,
            _ => {}
        }
    }

    async fn creates(&mut self) {
        let new = session(&self.subject, self.start);
        let record = SessionRecord { last_used: self.now(), ..new.session };
        let ends_at = self.now().saturating_add(Duration::from_secs(pick(&[20, 60, 1000])));
        let new = NewSession { session: record, ends_at, ..new };
        self.log.push(format!("{}: create {} until {ends_at}", self.now(), new.session.id));
        answered(self.store.create(new.clone()).await);
        self.sessions.insert(new.session.id, Known::new(&new));
        if let Some(live) = self.live().next() {
            let taken = NewSession { session: SessionRecord { id: live.record.id, ..new.session.clone() }, ..new };
            conflicts(self.store.create(taken).await, "an id that is taken");
        }
    }

    async fn rotates(&mut self, foreign: u64, successor: u64) {
        let id = self.some_id();
        let presented = self.some_token(id, foreign);
        let mut rotation = turn(id, presented, pick(&[0, 2, 10, 60]), self.now());
        (rotation.successor, rotation.sealed) = (digest(successor), sealed(successor));
        rotation.ends_at = self.now().saturating_add(Duration::from_secs(pick(&[20, 60, 1000])));
        let known = self.sessions.get_mut(&id);
        let (expected, lives) = known.map_or((Rotated::Unknown, true), |known| known.rotate(&rotation, successor));
        self.log.push(format!("{}: {rotation:?}", self.now()));
        let told = answered(self.store.rotate(rotation).await);
        assert_eq!(told, expected, "after {:#?}", self.log);
        if !lives {
            self.sessions.remove(&id);
            self.strangers.push(id);
        }
    }

    async fn looks(&self, foreign: u64) {
        let id = self.some_id();
        let token = self.some_token(id, foreign);
        let known = self.sessions.get(&id).filter(|known| !known.family.has_ended(self.now()));
        let expected = known.map(|known| (known.record.clone(), known.standing(token)));
        let told = answered(self.store.look(id, digest(token), self.now()).await);
        assert_eq!(told, expected, "look at {id}, token {token}, at {} after {:#?}", self.now(), self.log);
    }

    async fn finds(&self) {
        let id = self.some_id();
        let known = self.sessions.get(&id).filter(|known| !known.family.has_ended(self.now()));
        let told = answered(self.store.find(id, self.now()).await);
        assert_eq!(told, known.map(|known| known.record.clone()), "{id} at {} after {:#?}", self.now(), self.log);
    }

    async fn lists(&self) {
        let listed = answered(self.store.sessions(&self.subject, self.now()).await);
        assert!(listed.is_sorted_by_key(|session| std::cmp::Reverse(session.last_used)), "{listed:#?}");
        let by_id = |list: Vec<SessionRecord>| list.into_iter().map(|record| (record.id, record)).collect();
        let listed: HashMap<_, _> = by_id(listed);
        let expected: HashMap<_, _> = by_id(self.live().map(|known| known.record.clone()).collect());
        assert_eq!(listed, expected, "at {} after {:#?}", self.now(), self.log);
    }

    /// Of a session that has ended, it is left open whether it is still there to be revoked.
    async fn revokes(&mut self) {
        let id = self.some_id();
        let known = self.sessions.remove(&id);
        self.strangers.push(id);
        self.log.push(format!("{}: revoke {id}", self.now()));
        let told = answered(self.store.revoke(id, called_back(self.now())).await);
        if !known.as_ref().is_some_and(|known| known.family.has_ended(self.now())) {
            assert_eq!(told, known.is_some(), "after {:#?}", self.log);
        }
    }

    async fn ends_all(&mut self, except: Option<SessionId>) {
        let is_meant = |id: &SessionId| Some(*id) != except;
        let live: HashSet<_> = self.live().map(|known| known.record.id).filter(is_meant).collect();
        let all: HashSet<_> = self.sessions.keys().copied().filter(is_meant).collect();
        self.log.push(format!("{}: revoke all but {except:?}", self.now()));
        let told = answered(self.store.revoke_all(&self.subject, except, called_back(self.now())).await);
        let ended: HashSet<_> = told.iter().copied().collect();
        assert_eq!(ended.len(), told.len(), "each once");
        assert!(ended.is_superset(&live) && ended.is_subset(&all), "{ended:?} after {:#?}", self.log);
        self.sessions.retain(|id, _| Some(*id) == except);
        self.strangers.extend(all);
    }
}
