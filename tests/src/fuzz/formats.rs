//! The formats of pairs: the input is a text.

use seawall::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use seawall_cli::format::{Entry, Format, FormatError, Position};
use seawall_wal::codec::{to_u64, to_usize};

/// Any text gives pairs, each within the limits, then an error or the end; places do not run backwards,
/// reading may go on from each of them, and what is written reads the same.
fn read(format: Format, text: &[u8]) {
    let entries = all(format, text, Position::default());
    let mut end = Position::default();
    for (index, entry) in entries.iter().enumerate() {
        match entry {
            Ok(entry) => {
                assert!((1..=MAX_KEY_BYTES).contains(&entry.key.len()), "the length of a key");
                assert!(entry.value.len() <= MAX_VALUE_BYTES, "the length of a value");
                assert!(entry.end.offset > end.offset, "pair {index} ends where it begins");
                check(format, text, entry.end, end);
                end = entry.end;
            }
            Err(error) => {
                assert_eq!(index + 1, entries.len(), "something follows an error");
                check(format, text, error.at, end);
            }
        }
    }
    go_on(format, text, &entries);
    let pairs: Vec<_> = entries.into_iter().flatten().collect();
    let written = write(format, &pairs);
    let again = all(format, &written, Position::default());
    assert_eq!(again.len(), pairs.len(), "pairs that were written");
    for (one, other) in pairs.iter().zip(again) {
        let other = other.expect("what was written is a pair");
        assert!((&one.key, &one.value) == (&other.key, &other.value), "{one:?} became {other:?}");
    }
}

/// A place lies in the text, behind the one before.
fn check(format: Format, text: &[u8], place: Position, before: Position) {
    assert!(place.offset >= before.offset, "{format:?}: {place:?} behind {before:?}");
    assert!(place.lines >= before.lines, "{format:?}: {place:?} behind {before:?}");
    let there = text.get(..to_usize(place.offset)).expect("a place in the text");
    let lines = to_u64(there.iter().filter(|byte| **byte == b'\n').count());
    match format {
        // A carriage return alone ends a line, too.
        Format::Csv => assert!(place.lines <= place.offset, "{place:?}"),
        Format::Tsv | Format::Ndjson => assert_eq!(place.lines, lines, "{place:?}"),
    }
}

/// Reading goes on from the end of a pair as if it had never stopped.
fn go_on(format: Format, text: &[u8], entries: &[Result<Entry, FormatError>]) {
    // Every pair of a short text, some of a long one.
    let step = entries.len().div_ceil(8).max(1);
    for (index, entry) in entries.iter().enumerate().step_by(step) {
        let Ok(entry) = entry else { continue };
        let rest = all(format, &text[to_usize(entry.end.offset)..], entry.end);
        assert_eq!(shown(&rest), shown(&entries[index + 1..]), "behind pair {index}");
    }
}

type Shown<'a> = Result<&'a Entry, String>;

fn shown(entries: &[Result<Entry, FormatError>]) -> Vec<Shown<'_>> {
    entries.iter().map(|entry| entry.as_ref().map_err(ToString::to_string)).collect()
}

fn all(format: Format, text: &[u8], start: Position) -> Vec<Result<Entry, FormatError>> {
    format.read(text, start).collect()
}

/// The text of these pairs.
fn write(format: Format, pairs: &[Entry]) -> Vec<u8> {
    let pairs = pairs.iter().map(|entry| (&*entry.key, &*entry.value));
    text_of(format, pairs)
}

/// The text of these pairs.
pub(super) fn text_of<'a>(
    format: Format,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<u8> {
    let mut text = Vec::new();
    let mut writer = format.writer(&mut text);
    for (key, value) in pairs {
        writer.write(key, value).expect("memory takes all");
    }
    writer.finish().expect("memory takes all");
    text
}

/// Tab-separated pairs.
pub fn tsv(bytes: &[u8]) {
    read(Format::Tsv, bytes);
}

/// An object a line.
pub fn ndjson(bytes: &[u8]) {
    read(Format::Ndjson, bytes);
}

/// Comma-separated pairs.
pub fn csv(bytes: &[u8]) {
    read(Format::Csv, bytes);
}
