//! Records all that anybody logs, at the finest level: every target, every field, every span.

use std::{
    fmt::{Debug, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, set_default, set_global_default},
};

/// Keeps it. Clones keep the same.
#[derive(Clone, Default)]
pub struct Recorder {
    text: Arc<Mutex<String>>,
    spans: Arc<AtomicU64>,
}

impl Recorder {
    /// Records what this thread logs, until the guard is dropped.
    pub fn capture(&self) -> DefaultGuard {
        set_default(self.clone())
    }

    /// Records what every thread of this process logs from now on, by `tracing` and by `log`.
    pub fn install(&self) {
        set_global_default(self.clone()).unwrap();
        log::set_logger(Box::leak(Box::new(self.clone()))).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.text.lock().unwrap()).into_bytes()
    }

    fn write(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) {
        let mut line = format!("{} {} {}", metadata.level(), metadata.target(), metadata.name());
        record(&mut Fields(&mut line));
        line.push('\n');
        self.text.lock().unwrap().push_str(&line);
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {field}={value}");
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self.0, " {field}={value} {value:?}");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.write(span.metadata(), |fields| span.record(fields));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut line = format!("span {}", span.into_u64());
        values.record(&mut Fields(&mut line));
        line.push('\n');
        self.text.lock().unwrap().push_str(&line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.write(event.metadata(), |fields| event.record(fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
        self.text.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}
