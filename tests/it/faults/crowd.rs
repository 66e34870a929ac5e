//! Those who use a program all the time: honest clients, who remember what they were told, and attackers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::ledger::{Asks, Ended, Ledger, Phase};
use crate::support::{Reply, try_send};

/// How long anybody waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const DEVICES: usize = 6;
/// Of them, those who never sign out.
const STAYING: usize = 2;
const VICTIMS: usize = 4;

/// What the program is to be told, beside its store.
pub fn variables() -> Vec<(&'static str, String)> {
    let user =
        |name: String| json!({ "username": name, "password": own_password(&name), "scopes": ["me", "items", "admin"] });
    let names = (0..DEVICES).map(|n| format!("owner{n}")).chain((0..VICTIMS).map(|n| format!("victim{n}")));
    let users: Vec<Value> = names.chain(["changer".to_owned()]).map(user).collect();
    vec![
        ("USERS", Value::from(users).to_string()),
        ("ISSUER", "https://id.example".to_owned()),
        ("KEY_SECRET", "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26".to_owned()),
        ("REGISTRATION", "open".to_owned()),
        ("REFRESH_GRACE", "60".to_owned()),
        // So that each client has an address of its own, and a guess is looked at.
        ("TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("LOGIN_FAILURES", "100".to_owned()),
    ]
}

pub fn own_password(name: &str) -> String {
    format!("a long enough one of {}", name.chars().rev().collect::<String>())
}

/// Where the requests of one client go, and what is written down of their answers.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub ledger: Arc<Ledger>,
}

impl Client {
    /// Sends a request from an address that nobody had before.
    pub async fn send(&self, line: &str, token: Option<&str>, form: &str) -> Option<Reply> {
        static CLIENTS: AtomicU32 = AtomicU32::new(0);
        let [_, b, c, d] = CLIENTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut headers = vec![format!("x-forwarded-for: 10.{b}.{c}.{d}")];
        headers.extend(token.map(|token| format!("authorization: Bearer {token}")));
        if !form.is_empty() {
            headers.push("content-type: application/x-www-form-urlencoded".to_owned());
        }
        let headers: Vec<_> = headers.iter().map(String::as_bytes).collect();
        try_send(self.address, line, &headers, form.as_bytes(), PATIENCE).await
    }

    /// The same, written down.
    async fn ask(&self, asks: Asks, line: &str, token: Option<&str>, form: &str) -> (u16, Option<Reply>) {
        let begun = Instant::now();
        let reply = self.send(line, token, form).await;
        (self.ledger.note(asks, reply.as_ref(), begun.elapsed()), reply)
    }

    pub async fn sign_in(&self, name: &str, password: &str) -> (u16, Option<Session>) {
        let form = format!("grant_type=password&username={name}&password={}", password.replace(' ', "+"));
        let (status, reply) = self.ask(Asks::SignIn, "POST /token", None, &form).await;
        match status {
            200 => self.ledger.acknowledged(),
            0 | 400 | 503 => {}
            _ => self.ledger.odd(format!("sign-in: {reply:?}")),
        }
        (status, reply.filter(|_| status == 200).map(|reply| Session::new(&reply)))
    }
}

/// A session, as its client knows it.
pub struct Session {
    refresh: String,
    access: String,
    /// Those before, which end with it.
    before: Vec<String>,
    /// Whether its end was asked for and may have happened.
    ending: bool,
    /// The same of its access token alone.
    given_back: bool,
}

impl Session {
    fn new(reply: &Reply) -> Self {
        let json = reply.json();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        let (refresh, access) = (text("refresh_token"), text("access_token"));
        Self { refresh, access, before: Vec::new(), ending: false, given_back: false }
    }

    fn over(mut self) -> Ended {
        self.before.push(self.access);
        Ended { refresh: Some(self.refresh), access: self.before }
    }
}

/// Honest clients and attackers at work.
pub struct Crowd {
    pub client: Client,
    stop: Arc<AtomicBool>,
    devices: Vec<JoinHandle<Option<Session>>>,
    changer: JoinHandle<String>,
    registrar: JoinHandle<Vec<String>>,
    attackers: JoinSet<()>,
    /// Whether the clock is stepped, so that an access token may be too old or too new: its client gets another one.
    clock: bool,
}

impl Crowd {
    pub fn begin(address: SocketAddr) -> Self {
        Self::with_clock(address, false)
    }

    pub fn with_clock(address: SocketAddr, clock: bool) -> Self {
        let client = Client { address, ledger: Arc::new(Ledger::new()) };
        let stop = Arc::new(AtomicBool::new(false));
        let worker = |n: usize| Worker { client: client.clone(), stop: Arc::clone(&stop), n, clock };
        let mut attackers = JoinSet::new();
        attackers.spawn(worker(0).tries_tokens());
        attackers.spawn(worker(1).tries_refresh_tokens());
        attackers.spawn(worker(2).guesses());
        Self {
            devices: (0..DEVICES).map(|n| tokio::spawn(worker(n).uses_a_device())).collect(),
            changer: tokio::spawn(worker(0).changes_a_password()),
            registrar: tokio::spawn(worker(0).registers()),
            attackers,
            stop,
            client,
            clock,
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.client.ledger
    }

    /// Lets them work for so long before, and until there is something to lose; does the fault, and ends it; lets them work for a
    /// while after it.
    pub async fn through(&self, before: Duration, fault: impl Future<Output = ()>, after: Duration) {
        sleep(before).await;
        again(async || self.ledger().facts() >= 20).await;
        self.ledger().enter(Phase::During);
        fault.await;
        self.ledger().enter(Phase::After);
        sleep(after).await;
    }

    /// Ends all work, and looks whether all is so that was acknowledged.
    pub async fn settle(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::SeqCst);
        let Self { client, devices, changer, registrar, attackers, clock, .. } = self;
        let ledger = Arc::clone(&client.ledger);
        attackers.join_all().await;
        for device in devices {
            let Some(mut session) = device.await.unwrap().filter(|session| !session.ending) else { continue };
            let worker = Worker { client: client.clone(), stop: Arc::default(), n: 0, clock };
            for _ in 0..2 {
                if !again(async || worker.refresh(&mut session).await).await {
                    ledger.odd("a session could not be refreshed after the fault".to_owned());
                }
                let used = again(async || worker.use_token(&session, Asks::User).await == 200).await;
                if !used {
                    ledger.lost("an access token that was just issued".to_owned());
                }
            }
        }
        let password = changer.await.unwrap();
        if !again(async || client.sign_in("changer", &password).await.0 == 200).await {
            ledger.lost(format!("changer's password `{password}`"));
        }
        for name in registrar.await.unwrap() {
            if !again(async || client.sign_in(&name, &own_password(&name)).await.0 == 200).await {
                ledger.lost(format!("the user {name}"));
            }
        }
        // Last of all, so that whatever else has happened, those who are out stay out.
        for ended in ledger.all_ended() {
            for access in &ended.access {
                ledger.attempt("token of an ended session, at last", client.user_route(access).await.as_ref());
            }
            if let Some(refresh) = &ended.refresh {
                ledger.attempt("ended refresh token, at last", client.refresh(refresh).await.as_ref());
            }
        }
        ledger
    }
}

/// Tries until it is done, for ten seconds at most.
async fn again(mut done: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..50 {
        if done().await {
            return true;
        }
        sleep(Duration::from_millis(200)).await;
    }
    false
}

impl Client {
    async fn user_route(&self, token: &str) -> Option<Reply> {
        self.send("GET /users/me", Some(token), "").await
    }

    async fn refresh(&self, token: &str) -> Option<Reply> {
        self.send("POST /token", None, &format!("grant_type=refresh_token&refresh_token={token}")).await
    }
}

struct Worker {
    client: Client,
    stop: Arc<AtomicBool>,
    n: usize,
    clock: bool,
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Signs in, uses and refreshes tokens, gives them back, signs out; again and again.
    async fn uses_a_device(self) -> Option<Session> {
        let name = format!("owner{}", self.n);
        let mut held: Option<Session> = None;
        let mut round = self.n;
        while self.goes_on() {
            round += 1;
            held = match held.take() {
                None => {
                    let (status, session) = self.client.sign_in(&name, &own_password(&name)).await;
                    if status == 400 {
                        self.client.ledger.lost(format!("{name}'s password"));
                    }
                    if session.is_none() {
                        sleep(Duration::from_millis(100)).await;
                    }
                    session
                }
                Some(session) if session.ending => self.sign_out(session, round).await,
                Some(mut session) if session.given_back => {
                    self.refresh(&mut session).await;
                    Some(session)
                }
                Some(mut session) => match round % 12 {
                    0 | 6 if self.n < STAYING => Some(session),
                    0 => self.sign_out(session, round / 12).await,
                    3 | 9 => {
                        self.refresh(&mut session).await;
                        Some(session)
                    }
                    6 => {
                        self.give_back(&mut session).await;
                        Some(session)
                    }
                    odd => {
                        let asks = if odd % 2 == 0 { Asks::User } else { Asks::Token };
                        if self.use_token(&session, asks).await == 401 {
                            if !self.clock {
                                self.client.ledger.lost("a good access token".to_owned());
                            }
                            self.refresh(&mut session).await;
                        }
                        Some(session)
                    }
                },
            };
            sleep(Duration::from_millis(20)).await;
        }
        held
    }

    async fn use_token(&self, session: &Session, asks: Asks) -> u16 {
        let line = if asks == Asks::User { "GET /users/me" } else { "GET /admin/reports" };
        let (status, reply) = self.client.ask(asks, line, Some(&session.access), "").await;
        if !matches!(status, 0 | 200 | 401 | 503) {
            self.client.ledger.odd(format!("{asks:?}: {reply:?}"));
        }
        status
    }

    /// Whether it has another pair of tokens.
    async fn refresh(&self, session: &mut Session) -> bool {
        let form = format!("grant_type=refresh_token&refresh_token={}", session.refresh);
        let (status, reply) = self.client.ask(Asks::Refresh, "POST /token", None, &form).await;
        match (status, reply) {
            (200, Some(reply)) => {
                self.client.ledger.acknowledged();
                let next = Session::new(&reply);
                session.refresh = next.refresh;
                session.given_back = false;
                session.before.push(std::mem::replace(&mut session.access, next.access));
                return true;
            }
            (0 | 503, _) => {}
            (400, reply) => self.client.ledger.lost(format!("a session: {reply:?}")),
            (_, reply) => self.client.ledger.odd(format!("refresh: {reply:?}")),
        }
        false
    }

    /// Calls one access token back, and gets another one.
    async fn give_back(&self, session: &mut Session) {
        let form = format!("token={}", session.access);
        let (status, reply) = self.client.ask(Asks::SignOut, "POST /revoke", None, &form).await;
        match status {
            200 => {
                self.client.ledger.ended(Ended { refresh: None, access: vec![session.access.clone()] });
            }
            0 | 503 => {}
            _ => self.client.ledger.odd(format!("revocation: {reply:?}")),
        }
        // Whether or not it was called back, it is not used again.
        session.given_back = true;
        self.refresh(session).await;
    }

    /// `None` once it is over.
    async fn sign_out(&self, mut session: Session, way: usize) -> Option<Session> {
        let (line, token, form) = match way % 2 {
            0 => ("POST /logout", Some(session.access.clone()), String::new()),
            _ => ("POST /revoke", None, format!("token={}", session.refresh)),
        };
        let (status, reply) = self.client.ask(Asks::SignOut, line, token.as_deref(), &form).await;
        match status {
            200 | 204 => {
                self.client.ledger.ended(session.over());
                return None;
            }
            // It was done, and only the answer got lost.
            401 if session.ending => {
                self.client.ledger.ended(session.over());
                return None;
            }
            0 | 503 => {
                session.ending = true;
                sleep(Duration::from_millis(100)).await;
            }
            401 if self.clock => drop(self.refresh(&mut session).await),
            _ => self.client.ledger.odd(format!("sign-out: {reply:?}")),
        }
        Some(session)
    }

    /// Has another password each time, and never the one before; returns the last one.
    async fn changes_a_password(self) -> String {
        let word = |n: usize| format!("number {n} of many passwords");
        let (mut n, mut current) = (0, own_password("changer"));
        let mut held: Option<Session> = None;
        while self.goes_on() {
            sleep(Duration::from_millis(200)).await;
            let Some(session) = held.take() else {
                held = self.client.sign_in("changer", &current).await.1;
                continue;
            };
            n += 1;
            let next = word(n);
            let form = format!("current_password={current}&new_password={next}").replace(' ', "+");
            let (status, reply) = self.client.ask(Asks::Password, "POST /password", Some(&session.access), &form).await;
            match status {
                204 => {
                    self.client.ledger.acknowledged();
                    let old = format!("grant_type=password&username=changer&password={}", current.replace(' ', "+"));
                    current = next;
                    held = Some(session);
                    self.client
                        .ledger
                        .attempt("old password", self.client.send("POST /token", None, &old).await.as_ref());
                }
                0 | 503 => current = self.which_password(current, next).await,
                401 if self.clock => {}
                _ => self.client.ledger.odd(format!("password: {reply:?}")),
            }
        }
        current
    }

    /// The one that is good, where the answer to a change got lost.
    async fn which_password(&self, old: String, new: String) -> String {
        let good = async |password: &str| {
            let form = format!("grant_type=password&username=changer&password={}", password.replace(' ', "+"));
            self.client.send("POST /token", None, &form).await.map_or(0, |reply| reply.status)
        };
        for _ in 0..60 {
            match good(&new).await {
                200 => return new,
                400 => match good(&old).await {
                    200 => return old,
                    // It may have been changed between the two.
                    400 if good(&new).await == 400 => {
                        self.client.ledger.lost("both passwords".to_owned());
                        return new;
                    }
                    _ => {}
                },
                _ => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
        new
    }

    /// Adds users; returns the names of those who were told that they are.
    async fn registers(self) -> Vec<String> {
        let mut registered = Vec::new();
        for n in 0.. {
            if !self.goes_on() {
                break;
            }
            let name = format!("guest{n}");
            let form = format!("username={name}&password={}", own_password(&name).replace(' ', "+"));
            let (status, reply) = self.client.ask(Asks::Register, "POST /register", None, &form).await;
            match status {
                201 => {
                    self.client.ledger.acknowledged();
                    registered.push(name);
                }
                0 | 503 => {}
                _ => self.client.ledger.odd(format!("registration: {reply:?}")),
            }
            sleep(Duration::from_millis(400)).await;
        }
        registered
    }

    async fn tries_tokens(self) {
        let foreign = portcullis::jwt::SigningKey::generate(portcullis::jwt::Algorithm::EdDsa).unwrap();
        let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": "user:1", "client_id": "app", "jti": "1",
            "iat": crate::support::now(), "exp": crate::support::now() + 600, "scope": "me items admin" });
        let forged = foreign.sign(&claims).unwrap();
        for n in 0.. {
            if !self.goes_on() {
                break;
            }
            let ended = self
                .client
                .ledger
                .one_ended(n * 31)
                .and_then(|ended| ended.access.get(n % ended.access.len()).cloned());
            let (what, token) = match n % 4 {
                0 => ("no token", None),
                1 => ("forged token", Some(forged.clone())),
                _ => ("token of an ended session", ended),
            };
            let line = if n % 8 < 4 { "GET /users/me" } else { "GET /admin/reports" };
            let reply = self.client.send(line, token.as_deref(), "").await;
            self.client.ledger.attempt(what, reply.as_ref());
            sleep(Duration::from_millis(15)).await;
        }
    }

    async fn tries_refresh_tokens(self) {
        for n in 0.. {
            if !self.goes_on() {
                break;
            }
            let ended = self.client.ledger.one_ended(n * 17).and_then(|ended| ended.refresh);
            let token = ended.unwrap_or_else(|| "A".repeat(64));
            self.client.ledger.attempt("ended refresh token", self.client.refresh(&token).await.as_ref());
            sleep(Duration::from_millis(30)).await;
        }
    }

    async fn guesses(self) {
        for n in 0.. {
            if !self.goes_on() {
                break;
            }
            let form = format!("grant_type=password&username=victim{}&password=guess+number+{n}+of+many", n % VICTIMS);
            let reply = self.client.send("POST /token", None, &form).await;
            self.client.ledger.attempt("wrong password", reply.as_ref());
            sleep(Duration::from_millis(150)).await;
        }
    }
}
