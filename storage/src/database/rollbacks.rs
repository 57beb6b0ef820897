//! Rollbacks of doomed transactions, away from the cleaner thread.
//!
//! A transaction of which a part is in its undo file may have to wait for log before it is undone, and
//! it is the cleaner thread that makes that room: so it begins the rollback and does not wait for it.
//! Each has a thread of its own, because the end of one may be what another one waits for.

use std::sync::Arc;

use seawall_wal::sync::{Mutex, thread};
use seawall_wal::{Error, Result};

use super::core::{Core, LiveState};
use crate::armed::Armed;

/// The rollbacks that are under way.
#[derive(Debug, Default)]
pub(super) struct Rollbacks {
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Rollbacks {
    /// Takes the unit away, whose calls get `TransactionTooOld` from now on, and has it rolled back. It
    /// stays where it is when there is no thread to be had.
    pub(super) fn begin(&self, core: &Arc<Core>, state: &mut LiveState) -> Result<()> {
        let unit = Arc::new(Mutex::new(Some(state.end(Error::TransactionTooOld)?)));
        let (core, taken) = (Arc::clone(core), Arc::clone(&unit));
        let body = move || {
            let _armed = Armed::new(&*core.engine.log);
            let unit = taken.lock().take().expect("nobody else takes it once there is a thread");
            if core.engine.roll_back_unit(unit).is_err() {
                core.tell_poisoned();
            }
        };
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        match thread::Builder::new().name("seawall-rollback".into()).spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(_no_thread) => {
                let unit = unit.lock().take().expect("no thread has taken it");
                *state = LiveState::Active(unit);
            }
        }
        Ok(())
    }

    /// Waits for all of them. Calls `serve` meanwhile, which makes log room and takes its time: the
    /// caller may be the cleaner thread, which lets the last handle go inside of an event receiver.
    pub(super) fn finish(&self, mut serve: impl FnMut()) {
        loop {
            let Some(thread) = self.threads.lock().pop() else { return };
            while !thread.is_finished() && thread.thread().id() != thread::current().id() {
                serve();
            }
        }
    }
}
