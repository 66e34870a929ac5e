//! Events as lines of JSON, in a file or wherever bytes go.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
};

use futures::{channel::oneshot, future::BoxFuture};

use super::{
    event::{Event, EventId},
    sink::{AuditSink, SinkError},
};

const TARGET: &str = "portcullis::audit::json_lines";

/// Sink that writes a line of JSON for each event (RFC 8259, UTF-8, `\n`). Clones write to the same.
///
/// A batch is one `write`, by a thread of its own: a disk that hangs holds up neither requests nor the end of the program. What was
/// written is in the hands of the operating system, not of the disk.
///
/// A line may be cut off where the disk got full or the machine died. What follows begins on a line of its own, with the event that
/// was cut off: whoever reads leaves out the line that is no JSON.
#[derive(Clone)]
pub struct JsonLines {
    thread: SyncSender<Job>,
}

type Job = (Vec<Arc<Event>>, oneshot::Sender<Result<(), SinkError>>);

impl JsonLines {
    /// Appends to the file at `path`; makes it, for its owner alone, if there is none.
    ///
    /// To rotate is left to the system: whoever moves the file away, or copies and empties it, needs to tell nobody; the next batch
    /// goes to a new file, or to its start. A link is followed.
    ///
    /// # Errors
    ///
    /// That of the operating system.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        // Absolute, so that it stays the same file if the program goes to another folder.
        let path = std::path::absolute(path)?;
        let (file, torn) = open(&path)?;
        Self::start(Appended { path, file }, torn)
    }

    /// Writes to the standard output, as programs in containers do.
    ///
    /// # Errors
    ///
    /// That of the operating system, if it starts no thread.
    pub fn stdout() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    /// Writes to `writer`, flushed after each batch.
    ///
    /// # Errors
    ///
    /// That of the operating system, if it starts no thread.
    pub fn to(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(Given(writer), false)
    }

    fn start(target: impl Target, torn: bool) -> io::Result<Self> {
        // Room for one: a batch that comes while another is under way is handed over again later.
        let (thread, jobs) = mpsc::sync_channel(1);
        let mut lines = Lines { target, torn, written: None };
        let run = move || lines.run(&jobs);
        thread::Builder::new().name("portcullis-audit-lines".to_owned()).spawn(run)?;
        Ok(Self { thread })
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}

impl AuditSink for JsonLines {
    fn name(&self) -> &'static str {
        "json_lines"
    }

    fn write<'a>(&'a self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), SinkError>> {
        let (tell, told) = oneshot::channel();
        let sent = self.thread.try_send((events.to_vec(), tell));
        Box::pin(async move {
            sent.map_err(|error| match error {
                TrySendError::Full(_) => SinkError::unavailable("what was to be written before is not written yet"),
                TrySendError::Disconnected(_) => gone(),
            })?;
            told.await.map_err(|_| gone())?
        })
    }
}

fn gone() -> SinkError {
    SinkError::unavailable("the thread that writes is gone")
}

/// Where lines go.
trait Target: Send + 'static {
    /// Before a batch. Whether what is there ends in the middle of a line, if that may be another place than before.
    fn ready(&mut self) -> io::Result<Option<bool>>;

    fn writer(&mut self) -> &mut dyn Write;
}

struct Given<W>(W);

impl<W: Write + Send + 'static> Target for Given<W> {
    fn ready(&mut self) -> io::Result<Option<bool>> {
        Ok(None)
    }

    fn writer(&mut self) -> &mut dyn Write {
        &mut self.0
    }
}

struct Appended {
    path: PathBuf,
    file: File,
}

impl Target for Appended {
    fn ready(&mut self) -> io::Result<Option<bool>> {
        if !self.was_moved() {
            // What was emptied meanwhile has no half of a line any more.
            return Ok((self.file.metadata()?.len() == 0).then_some(false));
        }
        let (file, torn) = open(&self.path)?;
        self.file = file;
        Ok(Some(torn))
    }

    fn writer(&mut self) -> &mut dyn Write {
        &mut self.file
    }
}

impl Appended {
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

/// The file, and whether it ends in the middle of a line: whoever wrote it before may have died.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if file.metadata().is_ok_and(|file| file.is_file() && mode(&file) & 0o027 != 0) {
        tracing::warn!(target: TARGET, path = %path.display(), "anybody on this machine may read the audit file, or a group may change it");
    }
    Ok((file, ends_within_a_line(path)))
}

#[cfg(unix)]
fn mode(file: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&file.permissions())
}

/// By another handle: the one that appends may not be allowed to read. What cannot be read is left to readers.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let (mut file, mut last) = (File::open(path)?, [0]);
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last).map(|()| last)
    };
    last().is_ok_and(|last: [u8; 1]| last != [b'\n'])
}

struct Lines<T> {
    target: T,
    /// Whether the last line has no end.
    torn: bool,
    /// First event of the last batch, and how many of that are written: it comes again if its caller did not wait for the end.
    written: Option<(EventId, usize)>,
}

impl<T: Target> Lines<T> {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok((events, tell)) = jobs.recv() {
            // A writer of the program's own may panic: what it was given is lost, and not what comes after.
            let write = AssertUnwindSafe(|| self.write(&events).map_err(SinkError::unavailable));
            let written = catch_unwind(write).unwrap_or_else(|_| {
                self.torn = true;
                Err(SinkError::refused("the writer has panicked"))
            });
            // Nobody waits for an answer that comes late; it is written then all the same, and not again.
            let _ = tell.send(written);
        }
    }

    fn write(&mut self, events: &[Arc<Event>]) -> io::Result<()> {
        let Some(first) = events.first() else { return Ok(()) };
        let done = self.written.filter(|(id, _)| *id == first.id).map_or(0, |(_, count)| count);
        if let Some(torn) = self.target.ready()? {
            self.torn = torn;
        }
        let mut text = Vec::with_capacity(events.len() * 512);
        if self.torn {
            text.push(b'\n');
        }
        let mut ends = Vec::with_capacity(events.len());
        for event in events.iter().skip(done) {
            serde_json::to_writer(&mut text, &**event)?;
            text.push(b'\n');
            ends.push(text.len());
        }
        let (length, result) = self.write_all(&text);
        // A line that lacks nothing but its end gets that with the next.
        self.written = Some((first.id, done + ends.iter().take_while(|end| **end <= length + 1).count()));
        if let Some(last) = length.checked_sub(1) {
            self.torn = text.get(last) != Some(&b'\n');
        }
        result
    }

    /// How much was written, and what went wrong then.
    fn write_all(&mut self, text: &[u8]) -> (usize, io::Result<()>) {
        let (writer, mut length) = (self.target.writer(), 0);
        while let Some(rest) = text.get(length..).filter(|rest| !rest.is_empty()) {
            match writer.write(rest) {
                Ok(0) => return (length, Err(ErrorKind::WriteZero.into())),
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (length, Err(error)),
            }
        }
        (length, writer.flush())
    }
}
