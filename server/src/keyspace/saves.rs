//! Checkpoints that clients ask for. What was acknowledged is durable without them: they shorten the
//! next recovery, and give log space back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Keyspace;
use crate::failure::{Failure, Outcome};

/// Whether one is under way, and how the last one went.
#[derive(Debug)]
pub(crate) struct Saves {
    is_running: AtomicBool,
    has_failed: AtomicBool,
    /// End of the last one that did not fail, in seconds since 1970; before, the opening.
    last_s: AtomicU64,
}

impl Saves {
    pub(crate) fn new(now_s: u64) -> Self {
        Self {
            is_running: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            last_s: AtomicU64::new(now_s),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::SeqCst)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    pub(crate) fn last_s(&self) -> u64 {
        self.last_s.load(Ordering::SeqCst)
    }

    /// Claims to be the one that runs.
    fn begin(&self) -> Outcome {
        if self.is_running.swap(true, Ordering::SeqCst) {
            return Err(Failure::fixed("ERR Background save already in progress"));
        }
        Ok(())
    }
}

impl Keyspace {
    /// Takes a checkpoint.
    pub(crate) fn save(&self) -> Outcome {
        self.saves.begin()?;
        self.checkpoint()
    }

    /// Takes a checkpoint in a thread of its own.
    pub(crate) fn save_in_background(self: &Arc<Self>) -> Outcome {
        self.saves.begin()?;
        let keyspace = Arc::clone(self);
        let run = move || {
            // How it went is told by INFO.
            drop(keyspace.checkpoint());
        };
        std::thread::Builder::new().name("seawall-save".into()).spawn(run).map(drop).map_err(
            |error| {
                self.saves.is_running.store(false, Ordering::SeqCst);
                Failure::new(format!("ERR Can't save in background: {error}"))
            },
        )
    }

    /// The checkpoint that was begun.
    fn checkpoint(&self) -> Outcome {
        let done = self.engine.checkpoint();
        self.saves.has_failed.store(done.is_err(), Ordering::SeqCst);
        if done.is_ok() {
            self.saves.last_s.store(crate::clock::now_ms() / 1000, Ordering::SeqCst);
        }
        self.saves.is_running.store(false, Ordering::SeqCst);
        done?;
        Ok(())
    }
}
