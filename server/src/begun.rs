//! What SW.BEGIN has begun on a connection, and until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Command, flag};
use crate::failure::{Failure, Outcome};
use crate::keyspace::{Open, View};

/// A transaction that the client holds open, or one that was ended before the client did.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) what: What,
    timeout: Duration,
    until: Instant,
}

#[derive(Debug)]
pub(crate) enum What {
    /// READONLY: one moment.
    Reads(Arc<View>),
    /// Absent while a command works with it.
    Writes(Option<Box<Open>>),
    /// Rolled back, for this reason; each command is told until the client ends it too.
    Ended(Failure),
}

/// Ends a transaction, ended or not.
const ENDING: [&str; 2] = ["sw.commit", "sw.rollback"];
/// Has no place in one, beside what has none inside MULTI. Waits would let its time pass unseen.
const REFUSED: [&str; 8] =
    ["multi", "watch", "unwatch", "flushall", "flushdb", "swapdb", "wait", "waitaof"];

impl Begun {
    pub(crate) fn new(what: What, timeout: Duration) -> Self {
        Self { what, timeout, until: Instant::now() + timeout }
    }

    /// When it will be rolled back; `None` where it has been already.
    pub(crate) fn until(&self) -> Option<Instant> {
        (!matches!(self.what, What::Ended(_))).then_some(self.until)
    }

    /// Rolls it back if its time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.until().is_some_and(|until| until <= now) {
            let ms = self.timeout.as_millis();
            let why =
                format!("TIMEOUT the transaction was rolled back after {ms} ms: SW.ROLLBACK it");
            self.what = What::Ended(Failure::new(why));
        }
    }

    /// Rolls it back where an error says that it cannot be committed any more.
    pub(crate) fn doom(&mut self, failure: Failure) -> Failure {
        if failure.is_conflict() {
            self.what = What::Ended(Failure::CONFLICT);
        }
        failure.of_transaction()
    }

    /// Refuses what cannot run inside, and everything but its end where it has ended.
    pub(crate) fn admit(&mut self, command: &Command) -> Outcome {
        self.expire(Instant::now());
        if ENDING.contains(&command.name) || command.has(flag::NO_AUTH) {
            return Ok(());
        }
        match &self.what {
            What::Ended(why) => Err(why.clone()),
            _ if command.has(flag::NO_MULTI) || REFUSED.contains(&command.name) => {
                let name = command.name.to_uppercase();
                Err(Failure::new(format!("ERR {name} inside SW.BEGIN is not allowed")))
            }
            What::Reads(_) if command.has(flag::WRITE) => Err(Failure::fixed(
                "SNAPSHOT this transaction is READONLY, writes are refused: SW.COMMIT it first",
            )),
            _ => Ok(()),
        }
    }
}
