//! Sessions and their refresh tokens, one call after the other and several at once, in memory and in SQLite.
//!
//! Calls at once have to come out as if they had been made in some order: after each group, all states are kept that such an
//! order leads to, and whatever is told later has to agree with one of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use portcullis::{
    clock::UnixSeconds,
    ident::SessionId,
    session::{SealedToken, SessionRecord, Standing, TokenDigest},
    store::{
        CalledBack, Cursor, MemoryStore, NewSession, Revocation, Revoked, Rotated, Rotation, SessionStore, SqliteStore,
    },
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::runtime::{Builder, Runtime};

use crate::stores::Folder;

const START: u64 = 1_800_000_000;
/// When each session ends however much it is used.
const ABSOLUTE: u64 = START + 10_000;

/// Which of a session's tokens.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Current,
    Previous,
    Older,
    Foreign,
}

/// What is called, on which of the sessions that there have been so far.
#[derive(Clone, Debug)]
enum Call {
    Create { lasts: u64 },
    Rotate { session: usize, pick: Pick, grace: u64, lasts: u64 },
    Look { session: usize, pick: Pick },
    Find { session: usize },
    List,
    End { session: usize },
    EndAll { but: Option<usize> },
}

/// Calls at once, after so many seconds.
type Group = (u64, Vec<Call>);

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![5 => Just(Pick::Current), 4 => Just(Pick::Previous), 1 => Just(Pick::Older), 1 => Just(Pick::Foreign)]
}

fn call() -> impl Strategy<Value = Call> {
    let session = || prop_oneof![3 => Just(0_usize), 1 => 1_usize..4];
    let lasts = || prop_oneof![Just(5_u64), Just(60), Just(1000)];
    let grace = prop_oneof![Just(0_u64), Just(2), Just(10)];
    prop_oneof![
        2 => lasts().prop_map(|lasts| Call::Create { lasts }),
        12 => (session(), pick(), grace, lasts())
            .prop_map(|(session, pick, grace, lasts)| Call::Rotate { session, pick, grace, lasts }),
        2 => (session(), pick()).prop_map(|(session, pick)| Call::Look { session, pick }),
        2 => session().prop_map(|session| Call::Find { session }),
        1 => Just(Call::List),
        1 => session().prop_map(|session| Call::End { session }),
        1 => proptest::option::of(session()).prop_map(|but| Call::EndAll { but }),
    ]
}

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let wait = prop_oneof![4 => Just(0_u64), 2 => 1_u64..4, 1 => 4_u64..100];
    vec((wait, prop_oneof![2 => vec(call(), 1), 1 => vec(call(), 2..5)]), 1..16)
}

/// A call with all that a store is told.
#[derive(Clone, Debug)]
enum Told {
    Create(usize, u64),
    Rotate { session: usize, token: u64, successor: u64, grace: u64, ends_at: u64 },
    Look(usize, u64),
    Find(usize),
    List,
    End(usize),
    EndAll(Option<usize>),
}

/// What a store says to it.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Done,
    Rotated(Rotated),
    Looked(Option<(SessionRecord, Standing)>),
    Found(Option<SessionRecord>),
    Listed(Vec<SessionRecord>),
    Ended(bool),
    EndedAll(BTreeSet<SessionId>),
}

/// A session that lives, or has run out and may have been swept away.
#[derive(Clone, Debug, PartialEq)]
struct Live {
    /// All that were good once, the current one last.
    tokens: Vec<u64>,
    turned: u64,
    ends_at: u64,
    last_used: u64,
}

/// Sessions by their numbers, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// Who is not in here is over for ever.
    live: BTreeMap<usize, Live>,
    /// Those that were ended by a call, whose access tokens are called back.
    ended: BTreeSet<usize>,
}

/// What a store and the models share: who is who.
struct World {
    subject: String,
    ids: Vec<SessionId>,
    now: u64,
    next_token: u64,
}

fn at(seconds: u64) -> UnixSeconds {
    UnixSeconds::new(seconds)
}

fn digest(token: u64) -> TokenDigest {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&token.to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

fn sealed(token: u64) -> SealedToken {
    SealedToken::from_bytes(token.to_le_bytes().to_vec())
}

impl World {
    fn record(&self, session: usize, last_used: u64) -> SessionRecord {
        SessionRecord {
            id: self.ids[session],
            subject: self.subject.clone(),
            client_id: "app".to_owned(),
            scope: "me".parse().unwrap(),
            audience: vec!["orders".to_owned()],
            label: String::new(),
            network: String::new(),
            auth_time: at(START),
            last_used: at(last_used),
            expires_at: at(ABSOLUTE),
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Fills in what a call leaves open, as of one of the states that there may be.
    fn tell(&mut self, call: &Call, model: &Model) -> Told {
        let count = self.ids.len();
        let token = |world: &mut Self, session: usize, pick| {
            let tokens = model.live.get(&session).map(|live| live.tokens.as_slice()).unwrap_or_default();
            let picked = match pick {
                Pick::Current => tokens.last(),
                Pick::Previous => tokens.iter().rev().nth(1),
                Pick::Older => tokens.first(),
                Pick::Foreign => None,
            };
            picked.copied().unwrap_or_else(|| world.token())
        };
        // The latest is number 0.
        let which = |session: usize| count - 1 - session % count;
        match *call {
            Call::Create { lasts } => {
                self.ids.push(SessionId::random().unwrap());
                Told::Create(self.ids.len() - 1, self.now + lasts)
            }
            Call::Rotate { session, pick, grace, lasts } => {
                let session = which(session);
                let (token, ends_at) = (token(self, session, pick), (self.now + lasts).min(ABSOLUTE));
                Told::Rotate { session, token, successor: self.token(), grace, ends_at }
            }
            Call::Look { session, pick } => Told::Look(which(session), token(self, which(session), pick)),
            Call::Find { session } => Told::Find(which(session)),
            Call::List => Told::List,
            Call::End { session } => Told::End(which(session)),
            Call::EndAll { but } => Told::EndAll(but.map(which)),
        }
    }

    fn called_back(&self) -> CalledBack {
        CalledBack { until: at(self.now + 100_000), now: at(self.now) }
    }

    async fn ask(&self, store: &dyn SessionStore, told: &Told) -> Said {
        let now = at(self.now);
        match *told {
            Told::Create(session, ends_at) => {
                let session = self.record(session, self.now);
                let first = u64::try_from(self.ids.iter().position(|id| *id == session.id).unwrap()).unwrap();
                store
                    .create(NewSession { session, digest: digest(FIRST + first), ends_at: at(ends_at) })
                    .await
                    .unwrap();
                Said::Done
            }
            Told::Rotate { session, token, successor, grace, ends_at } => {
                let rotation = Rotation {
                    id: self.ids[session],
                    presented: digest(token),
                    successor: digest(successor),
                    sealed: sealed(successor),
                    grace: Duration::from_secs(grace),
                    ends_at: at(ends_at),
                    called_back_until: self.called_back().until,
                    now,
                };
                Said::Rotated(store.rotate(rotation).await.unwrap())
            }
            Told::Look(session, token) => {
                Said::Looked(store.look(self.ids[session], digest(token), now).await.unwrap())
            }
            Told::Find(session) => Said::Found(store.find(self.ids[session], now).await.unwrap()),
            Told::List => {
                let mut list = store.sessions(&self.subject, now).await.unwrap();
                list.sort_by_key(|record| record.id);
                Said::Listed(list)
            }
            Told::End(session) => Said::Ended(store.revoke(self.ids[session], self.called_back()).await.unwrap()),
            Told::EndAll(but) => {
                let but = but.map(|session| self.ids[session]);
                let ended = store.revoke_all(&self.subject, but, self.called_back()).await.unwrap();
                assert_eq!(ended.iter().collect::<HashSet<_>>().len(), ended.len(), "each once");
                Said::EndedAll(ended.into_iter().collect())
            }
        }
    }

    /// The state after a call, if what was said to it is right in this one.
    fn agrees(&self, mut model: Model, told: &Told, said: &Said) -> Option<Model> {
        let now = self.now;
        let lives = |live: &Live| now < live.ends_at;
        let record = |session: usize, live: &Live| self.record(session, live.last_used);
        let expected = match *told {
            Told::Create(session, ends_at) => {
                let first = FIRST + u64::try_from(session).unwrap();
                model.live.insert(session, Live { tokens: vec![first], turned: 0, ends_at, last_used: now });
                Said::Done
            }
            Told::Rotate { session, token, successor, grace, ends_at } => {
                Said::Rotated(match model.live.get_mut(&session).filter(|live| lives(live)) {
                    Some(live) if live.tokens.last() == Some(&token) => {
                        live.tokens.push(successor);
                        (live.turned, live.last_used, live.ends_at) = (now, now, ends_at);
                        Rotated::Turned
                    }
                    Some(live) if live.tokens.contains(&token) => {
                        let [.., previous, current] = live.tokens[..] else { unreachable!() };
                        if previous == token && now < live.turned + grace {
                            Rotated::Again(sealed(current))
                        } else {
                            model.live.remove(&session);
                            model.ended.insert(session);
                            Rotated::Reused
                        }
                    }
                    _ => Rotated::Unknown,
                })
            }
            Told::Look(session, token) => {
                let standing = |live: &Live| match live.tokens.iter().rev().position(|other| *other == token) {
                    Some(0) => Standing::Current,
                    Some(_) => Standing::Spent,
                    None => Standing::Foreign,
                };
                let live = model.live.get(&session).filter(|live| lives(live));
                Said::Looked(live.map(|live| (record(session, live), standing(live))))
            }
            Told::Find(session) => {
                Said::Found(model.live.get(&session).filter(|live| lives(live)).map(|live| record(session, live)))
            }
            Told::List => {
                let live = model.live.iter().filter(|(_, live)| lives(live));
                let mut list: Vec<_> = live.map(|(session, live)| record(*session, live)).collect();
                list.sort_by_key(|record| record.id);
                Said::Listed(list)
            }
            // Whether what has run out is still there to be ended is left open.
            Told::End(session) => {
                model.ended.insert(session);
                match model.live.remove(&session) {
                    Some(live) if !lives(&live) => said.clone(),
                    known => Said::Ended(known.is_some()),
                }
            }
            Told::EndAll(but) => {
                let Said::EndedAll(ended) = said else { return None };
                let all: BTreeMap<_, _> = model.live.iter().filter(|(session, _)| Some(**session) != but).collect();
                let must =
                    all.iter().filter(|(_, live)| lives(live)).all(|(session, _)| ended.contains(&self.ids[**session]));
                let may = ended.iter().all(|id| all.keys().any(|session| self.ids[**session] == *id));
                if !must || !may {
                    return None;
                }
                model.ended.extend((0..self.ids.len()).filter(|session| ended.contains(&self.ids[*session])));
                model.live.retain(|session, _| Some(*session) == but);
                said.clone()
            }
        };
        (expected == *said).then_some(model)
    }

    /// All states that some order of these calls leads to.
    fn orders(&self, model: &Model, calls: &[(Told, Said)], found: &mut Vec<Model>) {
        if calls.is_empty() && !found.contains(model) {
            found.push(model.clone());
        }
        for at in 0..calls.len() {
            let mut rest = calls.to_vec();
            let (told, said) = rest.remove(at);
            if let Some(model) = self.agrees(model.clone(), &told, &said) {
                self.orders(&model, &rest, found);
            }
        }
    }
}

/// The first token of session 0; later ones are numbered from 1.
const FIRST: u64 = 1_000_000;

fn run(runtime: &Runtime, store: &Arc<dyn SessionStore>, groups: &[Group]) {
    let subject = format!("machine:{:?}", SessionId::random().unwrap());
    let mut world = World { subject, ids: Vec::new(), now: START, next_token: 0 };
    let mut models = vec![Model::default()];
    let first = (0, vec![Call::Create { lasts: 1000 }]);
    for (wait, calls) in std::iter::once(&first).chain(groups) {
        world.now += wait;
        let told: Vec<_> = calls.iter().map(|call| world.tell(call, &models[0])).collect();
        let shared = Arc::new(world);
        let said = runtime.block_on(async {
            let tasks = told.iter().map(|told| {
                let (world, store, told) = (Arc::clone(&shared), Arc::clone(store), told.clone());
                tokio::spawn(async move { world.ask(&*store, &told).await })
            });
            futures::future::join_all(tasks.collect::<Vec<_>>()).await
        });
        world = Arc::into_inner(shared).expect("all tasks have ended");
        let calls: Vec<_> = told.into_iter().zip(said.into_iter().map(Result::unwrap)).collect();
        let turned = |token: u64| {
            let its = calls
                .iter()
                .filter(move |(told, _)| matches!(told, Told::Rotate { token: other, .. } if *other == token));
            its.filter(|(_, said)| *said == Said::Rotated(Rotated::Turned)).count()
        };
        for (told, _) in &calls {
            assert!(!matches!(told, Told::Rotate { token, .. } if turned(*token) > 1), "turned twice: {calls:#?}");
        }
        let mut found = Vec::new();
        for model in &models {
            world.orders(model, &calls, &mut found);
        }
        assert!(!found.is_empty(), "at {}: {calls:#?}\nin no order comes from any of {models:#?}", world.now);
        models = found;
    }
    // What was ended, by whatever, is called back; and it stays ended, whoever asks.
    let noted: HashSet<Revocation> =
        runtime.block_on(store.revocations(Cursor::START, at(world.now))).unwrap().list.into_iter().collect();
    for (session, id) in world.ids.iter().enumerate() {
        if models.iter().all(|model| model.ended.contains(&session)) {
            let is_noted = |revocation: &Revocation| revocation.tokens == Revoked::Session(*id);
            assert!(noted.iter().any(is_noted), "session {session} was ended and its tokens were not");
        }
        if models.iter().all(|model| !model.live.contains_key(&session)) {
            assert_eq!(runtime.block_on(store.find(*id, at(START))).unwrap(), None, "as of no moment");
        }
    }
}

fn agrees(cases: u32, store: &Arc<dyn SessionStore>) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let config =
        ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&groups(), |groups| {
        run(&runtime, store, &groups);
        Ok(())
    });
    result.unwrap_or_else(|failed| panic!("{failed}"));
}

#[test]
fn any_calls_on_sessions_in_memory_come_out_as_in_some_order() {
    agrees(400, &(Arc::new(MemoryStore::new()) as _));
}

#[test]
fn any_calls_on_sessions_in_sqlite_come_out_as_in_some_order() {
    let folder = Folder::new("machine");
    agrees(60, &(Arc::new(SqliteStore::open(folder.file("a.db")).unwrap()) as _));
}
