//! What the server does, for callers whom the layers let in.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, StreamExt as _, stream};
use portcullis::tonic::CallerExt as _;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::notes::{Count, Empty, Note, health_server::Health, notes_server::Notes, reports_server::Reports};

/// How many notes there may be, of all callers together.
const MOST: usize = 10_000;
/// Longest note, in bytes.
const LONGEST: usize = 1024;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Notes by their owners, in memory.
#[derive(Clone, Default)]
pub(crate) struct Notebook(Arc<Mutex<HashMap<String, Vec<Note>>>>);

impl Notebook {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Note>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a note. How many its owner has.
    fn add(&self, owner: &str, note: Note) -> Result<Count, Status> {
        if note.text.len() > LONGEST {
            return Err(Status::invalid_argument("the note is too long"));
        }
        let mut notes = self.lock();
        if notes.values().map(Vec::len).sum::<usize>() >= MOST {
            return Err(Status::resource_exhausted("there are too many notes"));
        }
        let own = notes.entry(owner.to_owned()).or_default();
        own.push(note);
        Ok(count(own.len()))
    }
}

fn count(notes: usize) -> Count {
    Count { notes: notes.try_into().unwrap_or(u64::MAX) }
}

#[async_trait]
impl Notes for Notebook {
    async fn add(&self, request: Request<Note>) -> Result<Response<Count>, Status> {
        let caller = request.caller()?;
        self.add(caller.subject(), request.into_inner()).map(Response::new)
    }

    async fn add_all(&self, request: Request<Streaming<Note>>) -> Result<Response<Count>, Status> {
        let caller = request.caller()?;
        let (mut notes, mut last) = (request.into_inner(), count(0));
        while let Some(note) = notes.next().await {
            last = self.add(caller.subject(), note?)?;
        }
        Ok(Response::new(last))
    }

    type ListStream = Replies<Note>;

    async fn list(&self, request: Request<Empty>) -> Result<Response<Self::ListStream>, Status> {
        let own = self.lock().get(request.caller()?.subject()).cloned().unwrap_or_default();
        Ok(Response::new(stream::iter(own.into_iter().map(Ok)).boxed()))
    }

    type ShoutStream = Replies<Note>;

    async fn shout(&self, request: Request<Streaming<Note>>) -> Result<Response<Self::ShoutStream>, Status> {
        let shout = |note: Result<Note, Status>| note.map(|note| Note { text: note.text.to_uppercase() });
        Ok(Response::new(request.into_inner().map(shout).boxed()))
    }
}

#[async_trait]
impl Reports for Notebook {
    async fn total(&self, _: Request<Empty>) -> Result<Response<Count>, Status> {
        Ok(Response::new(count(self.lock().values().map(Vec::len).sum())))
    }
}

/// Whether the server is there.
pub(crate) struct Alive;

#[async_trait]
impl Health for Alive {
    async fn check(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}
