//! Events as lines of JSON, in a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;

use super::{
    event::Event,
    sink::{AuditSink, SinkError},
};

/// Sink that appends a line of JSON for each event to a file (RFC 8259, UTF-8, `\n`).
///
/// A batch is one `write`. To rotate is left to the system: whoever moves the file away needs to tell nobody, the next batch makes a
/// new one. What was written is in the hands of the operating system, not of the disk. A new file is for its owner alone.
#[derive(Clone, Debug)]
pub struct JsonLines {
    file: Arc<Mutex<Lines>>,
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// That of the operating system.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let file = open(&path)?;
        Ok(Self { file: Arc::new(Mutex::new(Lines { path, file })) })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.was_moved() {
            self.file = open(&self.path)?;
        }
        self.file.write_all(text)
    }

    /// Whether its path leads to another file now, or to none.
    #[cfg(unix)]
    fn was_moved(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(there), Ok(ours)) = (std::fs::metadata(&self.path), self.file.metadata()) else { return true };
        (there.dev(), there.ino()) != (ours.dev(), ours.ino())
    }

    #[cfg(not(unix))]
    fn was_moved(&self) -> bool {
        !self.path.exists()
    }
}

impl AuditSink for JsonLines {
    fn name(&self) -> &'static str {
        "json_lines"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let mut text = Vec::with_capacity(events.len() * 512);
            for event in events {
                serde_json::to_writer(&mut text, &**event).map_err(SinkError::refused)?;
                text.push(b'\n');
            }
            let file = Arc::clone(&self.file);
            let write = move || file.lock().unwrap_or_else(PoisonError::into_inner).write(&text);
            // A disk may take its time.
            tokio::task::spawn_blocking(write).await.map_err(SinkError::unavailable)?.map_err(SinkError::unavailable)
        })
    }
}
