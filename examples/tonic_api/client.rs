//! `cargo run --example tonic_api -- client`: a call of each kind.

use std::{env, error::Error, fmt::Debug};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};

use crate::notes::{
    Empty, Note, health_client::HealthClient, notes_client::NotesClient, reports_client::ReportsClient,
};

pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let url = env::var("URL").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let channel = Channel::from_shared(url.clone())?.connect().await.map_err(|e| format!("URL={url}: {e}"))?;
    let token = env::var("TOKEN").ok().filter(|token| !token.is_empty());
    let credential = token.map(|token| format!("Bearer {token}").parse::<AsciiMetadataValue>()).transpose()?;
    let show = move |mut request: Request<()>| {
        if let Some(credential) = &credential {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        Ok(request)
    };
    let mut notes = NotesClient::with_interceptor(channel.clone(), show.clone());
    let mut reports = ReportsClient::with_interceptor(channel.clone(), show.clone());
    let mut health = HealthClient::with_interceptor(channel, show);
    let some = || stream::iter(["buy milk", "call home"].map(|text| Note { text: text.to_owned() }));

    tell("Notes/Add       unary             ", notes.add(Note { text: "water the plants".to_owned() }).await);
    tell("Notes/AddAll    client streaming  ", notes.add_all(some()).await);
    tell_all("Notes/List      server streaming  ", notes.list(Empty {}).await).await;
    tell_all("Notes/Shout     both              ", notes.shout(some()).await).await;
    tell("Reports/Total   unary             ", reports.total(Empty {}).await);
    tell("Health/Check    unary             ", health.check(Empty {}).await);
    Ok(())
}

fn tell(what: &str, answer: Result<Response<impl Debug>, Status>) {
    match answer {
        Ok(answer) => println!("{what} {:?}", answer.get_ref()),
        Err(status) => refused(what, &status),
    }
}

/// Of an answer that is a stream, all that comes, to a hundred.
async fn tell_all<T: Debug>(what: &str, answer: Result<Response<Streaming<T>>, Status>) {
    let all = match answer {
        Ok(answer) => answer.into_inner().take(100).try_collect::<Vec<_>>().await,
        Err(status) => Err(status),
    };
    match all {
        Ok(all) => println!("{what} {all:?}"),
        Err(status) => refused(what, &status),
    }
}

fn refused(what: &str, status: &Status) {
    let challenge = status.metadata().get("www-authenticate").and_then(|field| field.to_str().ok());
    println!("{what} {}: {} ({})", i32::from(status.code()), status.message(), challenge.unwrap_or("no challenge"));
}
