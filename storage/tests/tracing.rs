//! What a subscriber of the crate `tracing` is told, with the feature of that name.
#![cfg(feature = "tracing")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use seawall::{Database, Result};
use seawall_wal::codec::to_u64;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Notes what it is told, a line each.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

/// Fields as text.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("text takes everything");
    }
}

impl Notes {
    fn note(&self, what: &str, metadata: &Metadata<'_>, record: impl FnOnce(&mut Text)) -> usize {
        assert_eq!(metadata.target(), "seawall");
        let mut text = Text(format!("{what} {} {}", metadata.level(), metadata.name()));
        record(&mut text);
        let mut lines = self.0.lock().expect("nobody panics with it");
        lines.push(text.0);
        lines.len()
    }

    /// Where a line with these parts is.
    fn position(&self, parts: &[&str]) -> usize {
        let lines = self.0.lock().expect("nobody panics with it");
        let has_all = |line: &String| parts.iter().all(|part| line.contains(part));
        lines.iter().position(has_all).unwrap_or_else(|| panic!("{parts:?} in {lines:#?}"))
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "seawall"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let number = self.note("span", span.metadata(), |text| span.record(text));
        Id::from_u64(to_u64(number))
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.note("event", event.metadata(), |text| event.record(text));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[test]
fn a_subscriber_sees_openings_and_checkpoints() -> Result<()> {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("db");
    let notes = Notes::default();
    tracing::subscriber::with_default(notes.clone(), || {
        let database = Database::open(&dir)?;
        database.tree("t")?.insert("k", "v")?;
        database.checkpoint()?;
        database.close()?;
        Database::open(&dir)?.close()
    })?;
    let opened = notes.position(&["span INFO open", "dir=", "db"]);
    let span = notes.position(&["span INFO checkpoint"]);
    let begun = notes.position(&["event DEBUG", "message=checkpoint begun at", "begin_lsn="]);
    let done = notes.position(&["event INFO", "message=checkpoint of", "redo_lsn="]);
    assert!(opened < span && span < begun && begun < done);
    notes.position(&["event DEBUG", "phase=redo", "message=recovery, redo"]);
    Ok(())
}
