//! A panic of the engine's own leaves it in a state that nobody has proved; so it poisons the
//! database, and no clean shutdown is noted (invariant L4). A panic of a user's closure does not pass
//! here: it unwinds through a rollback, which runs while the thread is panicking already.

use std::thread;

use seawall_wal::Error;

use crate::writeback::writer::LogWatermark;

/// Poisons the log when a panic begins while it lives.
#[derive(Debug)]
pub(crate) struct Armed<'l> {
    log: &'l dyn LogWatermark,
    was_panicking: bool,
}

impl<'l> Armed<'l> {
    pub(crate) fn new(log: &'l dyn LogWatermark) -> Self {
        Self { log, was_panicking: thread::panicking() }
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            self.log.poison(Error::Poisoned { source: None });
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::Arc;

    use seawall_wal::disk::SimDisk;

    use super::*;
    use crate::Options;

    /// Runs something while the thread unwinds from a panic of somebody else's.
    struct OnUnwind<F: FnMut()>(F);

    impl<F: FnMut()> Drop for OnUnwind<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    #[test]
    fn a_panic_of_the_engine_poisons_and_one_of_a_users_does_not() {
        let disk = Arc::new(SimDisk::new());
        let options = Options::new().disk_injected(disk).manual_background(true);
        let opened = crate::open::open(&options, Path::new("/db")).unwrap();
        let log = &*opened.engine.log;
        let user = catch_unwind(AssertUnwindSafe(|| {
            let _rollback = OnUnwind(|| drop(Armed::new(log)));
            panic!("of a user's closure");
        }));
        assert!(user.is_err() && log.poisoned().is_none());
        let engine = catch_unwind(AssertUnwindSafe(|| {
            let _armed = Armed::new(log);
            panic!("of the engine");
        }));
        assert!(engine.is_err() && matches!(log.poisoned(), Some(Error::Poisoned { .. })));
    }
}
