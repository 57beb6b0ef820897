//! What MONITOR shows: every command that was executed, as a line, to all who watch.
//!
//! Lines go the way of messages: into a bounded outbox, and nobody waits for who reads them. Commands of
//! administrators are not shown, nor passwords.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::clients::Client;
use crate::clock;
use crate::command::{Command, flag};
use crate::limits::PUSHED_BYTES_MAX;
use crate::outbox::Push;
use crate::redact;
use crate::resp::Args;
use crate::session::Session;

/// The connections that watch, by id.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    all: RwLock<BTreeMap<u64, Arc<Client>>>,
    /// How many, so that a command asks nothing more where nobody watches.
    count: AtomicUsize,
}

impl Monitors {
    pub(crate) fn enter(&self, client: &Arc<Client>) {
        let mut all = self.all.write();
        all.insert(client.id, Arc::clone(client));
        self.count.store(all.len(), Ordering::SeqCst);
    }

    pub(crate) fn leave(&self, client: &Client) {
        let mut all = self.all.write();
        all.remove(&client.id);
        self.count.store(all.len(), Ordering::SeqCst);
    }

    /// Hands the line of a command to `deliver` for each who watches.
    pub(crate) fn tell(
        &self,
        session: &Session,
        command: &Command,
        args: Args<'_>,
        mut deliver: impl FnMut(&Client, Push),
    ) {
        if self.count.load(Ordering::SeqCst) == 0 || command.has(flag::ADMIN) {
            return;
        }
        let line: Arc<[u8]> = line(session, &redact::shown(command, args)).into();
        for client in self.all.read().values() {
            deliver(client, Push::Line(Arc::clone(&line)));
        }
    }
}

/// Seconds, database and address, then the arguments in quotes.
fn line(session: &Session, arguments: &[&[u8]]) -> Vec<u8> {
    let now_us = clock::now_us();
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    let (database, address) = (session.database, session.client.address);
    let mut line = format!("{seconds}.{micros:06} [{database} {address}]").into_bytes();
    for argument in arguments {
        line.push(b' ');
        quote(argument, &mut line);
    }
    line
}

/// Writes bytes in quotes, as Redis does. Of a line that no outbox takes, the rest is left out.
fn quote(bytes: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in bytes {
        if line.len() > PUSHED_BYTES_MAX {
            return;
        }
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => write!(line, "\\x{byte:02x}").expect("writing to memory"),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_in_redis() {
        let mut line = Vec::new();
        quote(b"a\"b\\\0\n\r\t\x07\x08\xff~ ", &mut line);
        assert_eq!(line, b"\"a\\\"b\\\\\\x00\\n\\r\\t\\a\\b\\xff~ \"");
    }

    #[test]
    fn a_line_is_not_built_beyond_what_can_be_sent() {
        let mut line = Vec::new();
        quote(&vec![0; PUSHED_BYTES_MAX], &mut line);
        assert!((PUSHED_BYTES_MAX..PUSHED_BYTES_MAX + 8).contains(&line.len()));
    }
}
