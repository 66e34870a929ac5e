//! Events in memory: the last few.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use futures::FutureExt as _;

use super::{MemoryStore, lock};
use crate::{
    audit::{EventRecord, millis},
    store::{AuditStore, EventQuery, StoreFuture},
};

/// Events that it holds at most: the oldest go first.
const MOST_EVENTS: usize = 32_768;

/// Events by time and id, and the time of each id.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_time: BTreeMap<(u64, String), EventRecord>,
    times: HashMap<String, u64>,
}

impl Events {
    fn add(&mut self, event: EventRecord) {
        let time = millis(event.time);
        if self.times.contains_key(&event.id) {
            return;
        }
        self.times.insert(event.id.clone(), time);
        self.by_time.insert((time, event.id.clone()), event);
        if self.by_time.len() > MOST_EVENTS {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(((_, id), _)) = self.by_time.pop_first() {
            self.times.remove(&id);
        }
    }

    fn list(&self, query: &EventQuery) -> Vec<EventRecord> {
        let end = match &query.after {
            Some(id) => match self.times.get(id) {
                Some(time) => (*time, id.clone()),
                None => return Vec::new(),
            },
            None => (u64::MAX, String::new()),
        };
        let since = query.since.map_or(0, millis);
        let asked = |event: &&EventRecord| {
            (query.subject.is_none() || event.subject == query.subject)
                && (query.kinds.is_empty() || query.kinds.iter().any(|kind| kind.name() == event.kind))
        };
        let before = self.by_time.range(..end).rev().take_while(|((time, _), _)| *time >= since);
        before.map(|(_, event)| event).filter(asked).take(query.page()).cloned().collect()
    }
}

impl AuditStore for MemoryStore {
    fn add_events(&self, events: Vec<EventRecord>, forget: Option<SystemTime>) -> StoreFuture<'_, ()> {
        let forget = forget.map_or(0, millis);
        async move {
            let mut own = lock(&self.events);
            for event in events {
                own.add(event);
            }
            while own.by_time.first_key_value().is_some_and(|((time, _), _)| *time < forget) {
                own.forget_first();
            }
            Ok(())
        }
        .boxed()
    }

    fn events(&self, query: EventQuery) -> StoreFuture<'_, Vec<EventRecord>> {
        async move { Ok(lock(&self.events).list(&query)) }.boxed()
    }
}
