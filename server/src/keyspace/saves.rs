//! Checkpoints that clients ask for. What was acknowledged is durable without them: they shorten the
//! next recovery, and give log space back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seawall::CheckpointReport;

use super::Keyspace;
use crate::failure::{Failure, Outcome};
use crate::job::{Claim, Single};

/// Whether one is under way, and how the last one went.
#[derive(Debug)]
pub(crate) struct Saves {
    running: Single,
    has_failed: AtomicBool,
    /// End of the last one that did not fail, in seconds since 1970; before, the opening.
    last_s: AtomicU64,
}

impl Saves {
    pub(crate) fn new(now_s: u64) -> Self {
        Self {
            running: Single::default(),
            has_failed: AtomicBool::new(false),
            last_s: AtomicU64::new(now_s),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_running()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    pub(crate) fn last_s(&self) -> u64 {
        self.last_s.load(Ordering::SeqCst)
    }

    /// Claims to be the one that runs.
    fn begin(&self) -> Outcome<Claim> {
        let claim = self.running.claim();
        claim.ok_or(Failure::fixed("ERR Background save already in progress"))
    }
}

impl Keyspace {
    /// Claims a checkpoint. It is taken by whoever calls what this returns, in whichever thread.
    pub(crate) fn claim_save(
        self: &Arc<Self>,
    ) -> Outcome<impl FnOnce() -> Outcome<CheckpointReport> + Send + use<>> {
        let claim = self.saves.begin()?;
        let keyspace = Arc::clone(self);
        Ok(move || keyspace.checkpoint(claim))
    }

    /// Takes a checkpoint in a thread of its own.
    pub(crate) fn save_in_background(self: &Arc<Self>) -> Outcome {
        let save = self.claim_save()?;
        // How it went is told by INFO.
        let run = move || drop(save());
        std::thread::Builder::new()
            .name("seawall-save".into())
            .spawn(run)
            .map(drop)
            .map_err(|error| Failure::new(format!("ERR Can't save in background: {error}")))
    }

    /// The checkpoint that was claimed; the claim goes when its outcome is known to all.
    fn checkpoint(&self, _claim: Claim) -> Outcome<CheckpointReport> {
        let done = self.engine.checkpoint();
        self.saves.has_failed.store(done.is_err(), Ordering::SeqCst);
        if done.is_ok() {
            self.saves.last_s.store(crate::clock::now_ms() / 1000, Ordering::SeqCst);
        }
        Ok(done?)
    }
}
