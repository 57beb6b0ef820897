//! The threads: the log's flusher, the cleaner thread, which cleans pages and takes checkpoints, and
//! the collector. Each only calls the step of a state machine until it is told to stop; a database opened for tests has
//! no threads, and the test calls the steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall_wal::codec::to_u64;
use seawall_wal::sync::atomic::{AtomicBool, Ordering};
use seawall_wal::sync::{Condvar, Mutex, thread};
use seawall_wal::{Error, Lsn, Result};

use super::core::Core;
use crate::Event;
use crate::armed::Armed;
use crate::checkpoint::Spill;
use crate::checkpoint::pacing::{Backlog, PaceChange};
use crate::engine::Collected;
use crate::writeback::cleaner::CleanerTarget;

/// How long the cleaner thread and the collector doze when there is nothing to do.
const DOZE: Duration = Duration::from_millis(20);

/// What one step of the cleaner thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Maintained {
    pub(crate) pages_written: usize,
    pub(crate) has_checkpointed: bool,
}

/// Wakes the cleaner thread, and stops everybody.
#[derive(Debug, Default)]
struct Signal {
    is_stopped: AtomicBool,
    /// Somebody waits for log space.
    is_wal_full: AtomicBool,
    is_rung: Mutex<bool>,
    rung: Condvar,
}

/// The running threads.
#[derive(Debug)]
pub(super) struct Background {
    core: Arc<Core>,
    signal: Arc<Signal>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Signal {
    fn ring(&self) {
        *self.is_rung.lock() = true;
        self.rung.notify_all();
    }

    fn wait(&self, at_most: Duration) {
        let mut is_rung = self.is_rung.lock();
        if !*is_rung {
            self.rung.wait_for(&mut is_rung, at_most);
        }
        *is_rung = false;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }
}

impl Background {
    pub(super) fn start(core: &Arc<Core>) -> Self {
        let signal = Arc::new(Signal::default());
        let background =
            Self { core: Arc::clone(core), signal: Arc::clone(&signal), threads: Mutex::default() };
        let is_manual = core.options.manual_background;
        let weak = Arc::downgrade(core);
        let on_wal_full = move || {
            signal.is_wal_full.store(true, Ordering::SeqCst);
            signal.ring();
            let (true, Some(core)) = (is_manual, weak.upgrade()) else { return Ok(()) };
            // Nobody else would: the one who waits makes the room, and is told when there is none.
            core.make_log_room().map(drop).inspect_err(|error| {
                if !matches!(error, Error::NoSpace { .. }) {
                    core.engine.log.poison(error.clone());
                }
            })
        };
        let options = core.options.clone();
        let pacing = Arc::clone(&core.pacing);
        let pause = move || if is_manual { Duration::ZERO } else { pacing.pause() };
        core.engine.hooks.set(pause, on_wal_full, move |event| options.tell(event));
        if !is_manual && !core.options.read_only {
            background.spawn("seawall-flusher", flush);
            background.spawn("seawall-cleaner", maintain);
            background.spawn("seawall-collect", collect);
        }
        background
    }

    fn spawn(&self, name: &str, run: fn(&Arc<Core>, &Signal) -> Result<()>) {
        let (core, signal) = (Arc::clone(&self.core), Arc::clone(&self.signal));
        let body = move || {
            // What the thread did nobody else will do.
            let _armed = Armed::new(&*core.engine.log);
            if let Err(error) = run(&core, &signal) {
                core.engine.log.poison(error);
                core.tell_poisoned();
            }
        };
        let spawned = thread::Builder::new().name(name.into()).spawn(body);
        match spawned {
            Ok(handle) => self.threads.lock().push(handle),
            Err(error) => {
                let source = Arc::new(error);
                let error = Error::Io { path: self.core.path.clone(), source };
                self.core.engine.log.poison(error);
                self.core.tell_poisoned();
            }
        }
    }

    /// Ends the threads and waits for them: first the rollbacks, which need the others.
    pub(super) fn stop(&self) {
        self.core.rollbacks.finish(|| {
            if let Err(error) = self.core.serve_waiters(&self.signal) {
                self.core.engine.log.poison(error);
            }
            self.signal.wait(DOZE);
        });
        self.signal.is_stopped.store(true, Ordering::SeqCst);
        self.signal.ring();
        self.core.engine.log.wake_flusher();
        for handle in self.threads.lock().drain(..) {
            // The last handle may go on one of these threads, inside of an event receiver.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                self.core.engine.log.poison(Error::Poisoned { source: None });
            }
        }
    }
}

fn flush(core: &Arc<Core>, signal: &Signal) -> Result<()> {
    while !signal.is_stopped() {
        let step = core.engine.log.step()?;
        core.engine.log.wait_flusher(step.sleep);
    }
    Ok(())
}

fn maintain(core: &Arc<Core>, signal: &Signal) -> Result<()> {
    while !signal.is_stopped() {
        match core.serve_waiters(signal).and_then(|()| core.maintain_step()) {
            Ok(done) if done == Maintained::default() => signal.wait(DOZE),
            Ok(_) => {}
            Err(Error::NoSpace { .. }) => wait_for_space(core, signal)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until what is appended can be written. Before that another checkpoint would only be appended
/// to it, and use up the reserve.
fn wait_for_space(core: &Core, signal: &Signal) -> Result<()> {
    let log = &core.engine.log;
    while !signal.is_stopped() {
        signal.wait(DOZE);
        match log.wait_durable(log.reserved_lsn()) {
            Err(Error::NoSpace { .. }) => {}
            durable => return durable,
        }
    }
    Ok(())
}

fn collect(core: &Arc<Core>, signal: &Signal) -> Result<()> {
    while !signal.is_stopped() {
        let done = match core.collect_step() {
            // It has given up waiting for the log.
            Err(Error::Closed) => return Ok(()),
            // What is left stays garbage until the disk has room.
            Err(Error::NoSpace { .. }) => false,
            done => done?,
        };
        if !done {
            signal.wait(DOZE);
        }
    }
    Ok(())
}

impl Core {
    /// Makes log room where somebody waits for it.
    fn serve_waiters(self: &Arc<Self>, signal: &Signal) -> Result<()> {
        if signal.is_wal_full.swap(false, Ordering::SeqCst) {
            let made = self.make_log_room();
            if !matches!(made, Ok(true)) {
                // A doomed transaction has not ended yet, or the disk is full: tried again after a
                // while.
                signal.is_wal_full.store(true, Ordering::SeqCst);
            }
            made?;
        }
        Ok(())
    }

    /// One step of page cleaner and checkpointer: a batch of pages, or a checkpoint, or nothing.
    pub(crate) fn maintain_step(&self) -> Result<Maintained> {
        let budget_bytes = self.pacing.budget_bytes(Instant::now(), self.backlog());
        let reserved = self.engine.log.reserved_lsn();
        let cleaner_bytes = self.pacing.cleaner_bytes(budget_bytes);
        let target = Lsn::new(reserved.get().saturating_sub(cleaner_bytes));
        let cleaner = &self.engine.cleaner;
        let mut pages_written = 0;
        let frames = CleanerTarget::CleanFrames(self.clean_frames);
        if !cleaner.is_reached(frames) {
            pages_written += cleaner.step(frames)?.pages_written;
        }
        let redo = CleanerTarget::RedoLsn(target);
        if !cleaner.is_reached(redo) {
            // While there is time, nobody should notice.
            let redo_bytes = self.checkpointer.redo_bytes_after_checkpoint();
            let step = if self.pacing.is_near(redo_bytes, budget_bytes) {
                cleaner.step(redo)
            } else {
                cleaner.step_gently(redo, self.pacing.doublings(redo_bytes, budget_bytes))
            };
            pages_written += step?.pages_written;
        }
        let checkpoint_bytes = self.pacing.checkpoint_bytes(budget_bytes);
        let redo_bytes = self.checkpointer.redo_bytes();
        let after = self.checkpointer.redo_bytes_after_checkpoint();
        let is_worth_it = self.pacing.is_checkpoint_worth_it(redo_bytes, after, budget_bytes);
        let is_due = is_worth_it || self.checkpointer.bytes_since_last() >= checkpoint_bytes;
        if is_due {
            self.take_checkpoint(Spill::BeyondShare)?;
        }
        self.pace(budget_bytes);
        Ok(Maintained { pages_written, has_checkpointed: is_due })
    }

    /// Holds writers back, or lets them go, by how far the log exceeds its budget.
    fn pace(&self, budget_bytes: u64) {
        match self.pacing.set_pause(self.checkpointer.redo_bytes(), budget_bytes) {
            PaceChange::None => {}
            PaceChange::Begins => {
                let reason = self.pacing.reason(budget_bytes);
                *self.paced.lock() = Some((reason, Instant::now()));
                self.emit(&Event::StallBegin { reason });
            }
            PaceChange::Ends => {
                // Only one thread paces; were there two, the other could just have begun.
                let Some((reason, since)) = self.paced.lock().take() else { return };
                let waited = since.elapsed();
                self.engine.hooks.count_stall(waited);
                self.emit(&Event::StallEnd { reason, waited });
            }
        }
    }

    /// How long recovery would take now.
    pub(super) fn estimated_recovery(&self) -> Duration {
        self.pacing.estimate(self.backlog())
    }

    /// What recovery would have to do after a crash now.
    fn backlog(&self) -> Backlog {
        let pages = to_u64(self.engine.dirty.len());
        Backlog { log_bytes: self.checkpointer.redo_bytes(), pages }
    }

    /// Cleans pages, spills undo information and takes checkpoints so that log can be given up; ends
    /// the transaction that holds the log back where its undo could not be spilled. Returns whether
    /// there is more room than before. A checkpoint that could give nothing up is not taken: it is
    /// written to the permanent reserve, and however often this is tried, that must last. Nor is the
    /// log read again for what to spill, as long as the transaction that was ended last still holds it:
    /// that will end, and nothing else would help.
    fn make_log_room(self: &Arc<Self>) -> Result<bool> {
        let log = &self.engine.log;
        let room_bytes = log.room_bytes();
        loop {
            let reserved = log.reserved_lsn();
            self.engine.cleaner.reach(CleanerTarget::RedoLsn(reserved))?;
            // Only what is durable can be spilled.
            log.wait_durable(reserved)?;
            let oldest = self.engine.oldest_undo();
            if oldest.is_none() || *self.doomed_last.lock() != oldest {
                self.checkpointer.spill(Spill::Everything)?;
            }
            if self.checkpointer.can_give_log_up() {
                self.take_checkpoint(Spill::Everything)?;
                self.take_checkpoint(Spill::Everything)?;
            }
            if log.room_bytes() > room_bytes {
                return Ok(true);
            }
            if !self.doom_oldest(reserved)? {
                return Ok(false);
            }
        }
    }

    /// One step of the collector. Returns whether there may be more to do at once.
    pub(crate) fn collect_step(&self) -> Result<bool> {
        let done = self.engine.collect_step()?;
        Ok(done != Collected::default())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::path::Path;
    use std::sync::Weak;

    use seawall_wal::TreeId;
    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};
    use seawall_wal::log::{CreditRequest, CreditWait, Purpose};
    use seawall_wal::sync::atomic::AtomicU64;

    use super::*;
    use crate::{Durability, Options, StallReason};

    #[test]
    fn waiting_for_a_doomed_transaction_does_not_use_up_the_reserve() -> Result<()> {
        let disk = SimDisk::new();
        crate::testing::refuse_undo_files(&disk);
        let options = Options::new().disk_injected(Arc::new(disk)).manual_background(true);
        let options = options.unchecked_limits().page_bytes(4096).cache_bytes(256 << 10);
        let database = options.max_wal_bytes(4 << 20).open("/db")?;
        let tree = database.tree("t")?;
        let mut old = database.begin()?;
        old.insert(&tree, "old", "never committed")?;
        for i in 0..3500_u32 {
            tree.insert_with(i.to_be_bytes(), vec![b'a'; 1000], Durability::Relaxed)?;
        }
        let core = database.shared_core();
        let live = core.live.lock().values().find_map(Weak::upgrade).expect("one is live");
        let in_a_call = live.lock();
        assert!(!core.make_log_room()?, "the log is held from its first segment on");
        let room_bytes = core.engine.log.room_bytes();
        for _ in 0..200 {
            assert!(!core.make_log_room()?);
        }
        assert_eq!(core.engine.log.room_bytes(), room_bytes);
        drop(in_a_call);
        assert!(core.make_log_room()?);
        assert!(matches!(old.insert(&tree, "more", ""), Err(Error::TransactionTooOld)));
        tree.insert("after", "free again")
    }

    #[test]
    fn closing_ends_who_waits_for_the_log_and_the_collector_does_not() -> Result<()> {
        let disk = SimDisk::new();
        let (told, stalled) = std::sync::mpsc::channel();
        let told = Mutex::new(told);
        let tell = move |event: &Event| {
            if matches!(event, Event::StallBegin { reason: StallReason::WalBound }) {
                told.lock().send(()).expect("somebody listens");
            }
        };
        let options = Options::new().disk_injected(Arc::new(disk)).on_event(tell);
        let options = options.unchecked_limits().page_bytes(4096).cache_bytes(256 << 10);
        let database = options.max_wal_bytes(4 << 20).open("/db")?;
        let tree = database.tree("t")?;
        for i in 0..2000_u32 {
            tree.insert_with(i.to_be_bytes(), [b'a'; 100], Durability::Relaxed)?;
        }
        let reader = database.snapshot()?;
        reader.contains_key(&tree, [0; 4])?;
        for i in 0..2000_u32 {
            tree.remove_with(i.to_be_bytes(), Durability::Relaxed)?;
        }
        database.checkpoint()?;
        // All room for normal records is taken, and no checkpoint can make more.
        let request = CreditRequest { payload_bytes: 4096, ..CreditRequest::default() };
        let give_up = || Some(Error::TransactionTooOld);
        let wait = CreditWait { give_up: &give_up, ..CreditWait::PATIENT };
        let log = &database.shared_core().engine.log;
        let taken = std::iter::from_fn(|| log.credit(&request, &wait).ok());
        let taken: Vec<_> = taken.map(|mut credit| credit.set_aside(4096)).collect();
        // Emptied leaves are purged and merged as soon as nobody needs what was on them.
        drop(reader);
        let (done, ended) = std::sync::mpsc::channel();
        let written = done.clone();
        std::thread::spawn(move || written.send(tree.insert("key", "waits")));
        stalled.recv_timeout(Duration::from_secs(30)).expect("the writer waits");
        let other = database.clone();
        std::thread::spawn(move || done.send(other.close()));
        let writer = ended.recv_timeout(Duration::from_secs(30)).expect("the writer is told");
        assert!(matches!(writer, Err(Error::Closed)), "{writer:?}");
        ended.recv_timeout(Duration::from_secs(30)).expect("it closes")?;
        drop(taken);
        Ok(())
    }

    #[test]
    fn a_rollback_ends_where_even_the_reserve_of_the_log_is_used_up() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let options = options.manual_background(true).unchecked_limits().page_bytes(4096);
        let database = options.cache_bytes(256 << 10).max_wal_bytes(4 << 20).open("/db")?;
        let tree = database.tree("t")?;
        tree.insert("key", "before")?;
        let mut undone = database.begin()?;
        let start = undone.savepoint();
        undone.insert(&tree, "key", "changed")?;
        undone.insert(&tree, "other", "made")?;
        undone.rollback_to(&start)?;
        let log = &database.shared_core().engine.log;
        let purpose = Purpose::Reserve;
        let request = CreditRequest { payload_bytes: 64, purpose, ..CreditRequest::default() };
        let taken = std::iter::from_fn(|| log.credit(&request, &CreditWait::PATIENT).ok());
        let taken: Vec<_> = taken.map(|mut credit| credit.set_aside(64)).collect();
        undone.rollback()?;
        assert_eq!(tree.get("key")?.as_deref(), Some(&b"before"[..]));
        drop(taken);
        tree.insert("other", "free again")
    }

    #[test]
    fn what_is_known_to_be_held_is_not_read_again_while_it_is_waited_for() -> Result<()> {
        let disk = SimDisk::new();
        crate::testing::refuse_undo_files(&disk);
        let database = small(&disk).max_wal_bytes(4 << 20).cache_bytes(256 << 10).open("/db")?;
        let tree = database.tree("t")?;
        let mut old = database.begin()?;
        old.insert(&tree, "old", "never committed")?;
        for i in 0..3000_u32 {
            tree.insert_with(i.to_be_bytes(), vec![b'a'; 1000], Durability::Relaxed)?;
        }
        let core = database.shared_core();
        let live = core.live.lock().values().find_map(Weak::upgrade).expect("one is live");
        let in_a_call = live.lock();
        let reads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reads);
        disk.set_monitor(Arc::new(move |operation| {
            if operation.kind == OperationKind::Read && operation.path.starts_with("/db/wal") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }));
        assert!(!core.make_log_room()?, "the log is held from its first segment on");
        let first = reads.load(Ordering::SeqCst);
        assert!(first > 0, "that was looked for in the log");
        for _ in 0..200 {
            assert!(!core.make_log_room()?);
        }
        assert_eq!(reads.load(Ordering::SeqCst), first);
        drop(in_a_call);
        assert!(core.make_log_room()?);
        tree.insert("after", "free again")
    }

    #[test]
    fn a_stepped_database_outlives_a_full_log_that_cannot_be_emptied() -> Result<()> {
        let database = small(&SimDisk::new()).open("/db")?;
        let tree = database.tree("t")?;
        for i in 0..2500_u32 {
            tree.insert_with(i.to_be_bytes(), [b'a'; 1000], Durability::Relaxed)?;
        }
        database.sync()?;
        let log = &database.shared_core().engine.log;
        let purpose = Purpose::Reserve;
        let request = CreditRequest { payload_bytes: 64, purpose, ..CreditRequest::default() };
        let taken = std::iter::from_fn(|| log.credit(&request, &CreditWait::PATIENT).ok());
        let taken: Vec<_> = taken.map(|mut credit| credit.set_aside(64)).collect();
        for _ in 0..2 {
            let refused = tree.insert("key", "value");
            assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        }
        drop(taken);
        tree.insert("key", "value")?;
        assert_eq!(tree.len()?, 2501);
        assert!(database.verify(|_| {})?.findings.is_empty());
        database.close()
    }

    fn small(disk: &SimDisk) -> Options {
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        options.unchecked_limits().page_bytes(4096).cache_bytes(512 << 10).max_wal_bytes(8 << 20)
    }

    #[test]
    fn a_panic_in_a_background_thread_poisons() -> Result<()> {
        let database = small(&SimDisk::new()).open("/db")?;
        let tree = database.tree("t")?;
        let core = Arc::clone(&database.shared.core);
        let background = Background { core, signal: Arc::default(), threads: Mutex::default() };
        background.spawn("seawall-test", |_, _| panic!("in a step"));
        for handle in background.threads.lock().drain(..) {
            assert!(handle.join().is_err());
        }
        let written = tree.insert("key", "nobody makes room for this");
        assert!(matches!(written, Err(Error::Poisoned { .. })), "{written:?}");
        Ok(())
    }

    #[test]
    fn a_panic_of_the_receiver_ends_there() -> Result<()> {
        let database = small(&SimDisk::new()).on_event(|_| panic!("the user's")).open("/db")?;
        let tree = database.tree("t")?;
        let mut transaction = database.begin()?;
        transaction.insert(&tree, "key", "rolled back")?;
        database.checkpoint()?;
        transaction.rollback()?;
        tree.insert("key", "value")?;
        database.close()
    }

    #[test]
    fn waiting_for_pages_that_nobody_will_write_ends_when_that_is_known() -> Result<()> {
        let disk = SimDisk::new();
        let database = small(&disk).open("/db")?;
        database.tree("t")?.insert("key", "value")?;
        let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Write);
        disk.add_fault(fault.path(|path| path.ends_with("pages")));
        let core = Arc::clone(&database.shared.core);
        let reserved = core.engine.log.reserved_lsn();
        let step = core.engine.cleaner.step(CleanerTarget::RedoLsn(reserved));
        assert!(matches!(step, Err(Error::Poisoned { .. })), "{step:?}");
        let (sender, cleaned) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(core.engine.cleaner.reach(CleanerTarget::RedoLsn(reserved)))
        });
        let cleaned = cleaned.recv_timeout(Duration::from_secs(10)).expect("it gives up");
        assert!(matches!(cleaned, Err(Error::Poisoned { .. })), "{cleaned:?}");
        Ok(())
    }

    /// Options that tell of damage, and what is told.
    fn telling_of_damage(options: Options) -> (Options, std::sync::mpsc::Receiver<Error>) {
        let (sender, told) = std::sync::mpsc::channel();
        let tell = move |event: &Event| {
            if let Event::Damaged { error } = event {
                sender.send(error.clone()).expect("the test listens");
            }
        };
        (options.on_event(tell), told)
    }

    #[test]
    fn a_checkpoint_after_one_that_could_not_spill_spills_everything() -> Result<()> {
        for kind in [OperationKind::Write, OperationKind::Sync] {
            let disk = SimDisk::new();
            let (options, told) = telling_of_damage(small(&disk).held_log_bytes(0));
            let database = options.open("/db")?;
            let tree = database.tree("t")?;
            let mut open = [database.begin()?, database.begin()?];
            for (i, transaction) in (0_u8..).zip(&mut open) {
                transaction.insert(&tree, [i], "old")?;
            }
            let is_undo =
                |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("undo"));
            let fault = Fault::new(FaultEffect::Errno(EIO)).kind(kind).path(is_undo);
            disk.add_fault(fault.lasting());
            let held_lsn = || database.shared_core().engine.oldest_undo().expect("some are open").0;
            let before = held_lsn();
            database.checkpoint()?;
            assert_eq!(held_lsn(), before, "{kind:?}: the log holds what is not spilled");
            assert!(matches!(told.try_recv(), Ok(Error::Io { .. })), "{kind:?}");
            disk.clear_faults();
            database.checkpoint()?;
            assert!(held_lsn() > before, "{kind:?}");
            for transaction in open {
                transaction.rollback()?;
            }
            assert_eq!(tree.len()?, 0);
            tree.insert("after", "")?;
            assert!(database.verify(|_| {})?.findings.is_empty());
        }
        Ok(())
    }

    #[test]
    fn an_undo_file_that_cannot_be_removed_is_told_and_poisons_nothing() -> Result<()> {
        let disk = SimDisk::new();
        let (options, told) = telling_of_damage(small(&disk).held_log_bytes(0));
        let database = options.open("/db")?;
        let tree = database.tree("t")?;
        let mut open = database.begin()?;
        open.insert(&tree, "key", "rolled back")?;
        database.checkpoint()?;
        let undo_files = || {
            let is_undo = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("undo"));
            disk.files().into_iter().filter(|(path, _)| is_undo(path)).count()
        };
        assert_eq!(undo_files(), 1);
        open.rollback()?;
        database.sync()?;
        disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Remove).lasting());
        while database.shared_core().collect_step()? {}
        database.checkpoint()?;
        assert!(matches!(told.try_recv(), Ok(Error::Io { .. })));
        tree.insert("key", "value")?;
        database.close()?;
        disk.clear_faults();
        let database = small(&disk).open("/db")?;
        assert_eq!(undo_files(), 0, "the next opening takes it away");
        assert_eq!(database.tree("t")?.len()?, 1);
        Ok(())
    }

    #[test]
    fn a_dropped_tree_with_a_damaged_page_is_set_aside() -> Result<()> {
        let disk = SimDisk::new();
        let database = small(&disk).open("/db")?;
        let tree = database.tree("dropped")?;
        tree.insert("key", "value")?;
        let core = database.shared_core();
        let root = core.engine.trees.get(TreeId::new(1)).expect("made above").root;
        let offset = core.engine.file.offset(root) + 100;
        drop(tree);
        database.drop_tree("dropped")?;
        database.close()?;
        disk.flip_bit(Path::new("/db/pages"), offset, 0);
        let database = small(&disk).open("/db")?;
        while database.shared_core().collect_step()? {}
        database.tree("other")?.insert("key", "value")?;
        assert!(!database.verify(|_| {})?.findings.is_empty(), "and verification tells");
        Ok(())
    }
}
