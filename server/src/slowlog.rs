//! Commands that took long: SLOWLOG.
//!
//! What is kept of one is short: so many arguments, so many bytes of each, as Redis keeps them. The time
//! is that of execution; the wait for the flush belongs to a whole pipeline and is no command's.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clients::Client;
use crate::clock;
use crate::command::Command;
use crate::limits::{SLOWLOG_ARGUMENT_BYTES_MAX, SLOWLOG_ARGUMENTS_MAX};
use crate::redact;
use crate::resp::Args;

/// A command that took long.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) time_s: u64,
    pub(crate) took_us: u64,
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) address: String,
    pub(crate) client_name: Vec<u8>,
}

/// The latest entries, the newest first.
#[derive(Debug, Default)]
pub(crate) struct SlowLog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Entry>,
    /// Goes on behind SLOWLOG RESET.
    next_id: u64,
}

impl SlowLog {
    /// Adds a command; of older ones no more than `entries_max` remain with it.
    pub(crate) fn note(
        &self,
        client: &Client,
        command: &Command,
        args: Args<'_>,
        took: Duration,
        entries_max: usize,
    ) {
        let mut entry = Entry {
            id: 0,
            time_s: clock::now_ms() / 1000,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            arguments: shortened(&redact::shown(command, args)),
            address: client.address.to_string(),
            client_name: client.name.lock().clone(),
        };
        let mut log = self.0.lock();
        entry.id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(entry);
        log.entries.truncate(entries_max);
    }

    /// How many there are, beyond `entries_max` none.
    pub(crate) fn len(&self, entries_max: usize) -> usize {
        self.0.lock().entries.len().min(entries_max)
    }

    /// The newest ones.
    pub(crate) fn newest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().entries.iter().take(count).cloned().collect()
    }

    pub(crate) fn reset(&self) {
        self.0.lock().entries.clear();
    }
}

/// What is kept of the arguments; where some are left out, the last one tells how many.
fn shortened(arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let kept = match arguments.len() {
        count if count > SLOWLOG_ARGUMENTS_MAX => SLOWLOG_ARGUMENTS_MAX - 1,
        count => count,
    };
    let mut short: Vec<_> = arguments[..kept].iter().map(|argument| cut(argument)).collect();
    if kept < arguments.len() {
        let left_out = arguments.len() - kept;
        short.push(format!("... ({left_out} more arguments)").into_bytes());
    }
    short
}

fn cut(argument: &[u8]) -> Vec<u8> {
    let Some(left_out) = argument.len().checked_sub(SLOWLOG_ARGUMENT_BYTES_MAX + 1) else {
        return argument.to_vec();
    };
    let mut short = argument[..SLOWLOG_ARGUMENT_BYTES_MAX].to_vec();
    short.extend_from_slice(format!("... ({} more bytes)", left_out + 1).as_bytes());
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_kept_up_to_a_number_and_a_length() {
        let of = |count: usize| shortened(&vec![&b"a"[..]; count]);
        assert_eq!(of(32), vec![b"a"; 32]);
        let short = of(33);
        assert_eq!((short.len(), &short[31][..]), (32, &b"... (2 more arguments)"[..]));
        assert_eq!(cut(&[b'v'; 128]), [b'v'; 128]);
        assert_eq!(cut(&[b'v'; 129]), [&[b'v'; 128][..], b"... (1 more bytes)"].concat());
    }
}
