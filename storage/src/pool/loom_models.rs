//! Models of the pool's lock-free parts: every interleaving of a few steps, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p seawall --release --lib loom`

use std::sync::Arc;

use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::thread;
use seawall_wal::{Lsn, PageId};

use super::dirty::{DirtyPage, DirtyTable};
use super::frame::FrameState;
use super::latch::{Latch, Parking};

/// Explores with at most this many preemptions: more find nothing new and take hours.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A frame as the arena keeps it, with two words of content.
struct Frame {
    parking: Parking,
    latch: Latch,
    page: AtomicU64,
    words: [AtomicU64; 2],
    state: FrameState,
}

const NO_PAGE: u64 = 0;

impl Frame {
    /// Holds page 1, whose words are 1, unpinned.
    fn new() -> Arc<Self> {
        let state = FrameState::new();
        state.unclaim();
        Arc::new(Self {
            parking: Parking::new(),
            latch: Latch::new(),
            page: AtomicU64::new(1),
            words: [AtomicU64::new(1), AtomicU64::new(1)],
            state,
        })
    }

    fn words(&self) -> [u64; 2] {
        [self.words[0].load(Ordering::Relaxed), self.words[1].load(Ordering::Relaxed)]
    }

    fn store(&self, value: u64) {
        self.latch.exclusive(&self.parking);
        self.words.iter().for_each(|word| word.store(value, Ordering::Relaxed));
        self.latch.release_exclusive(&self.parking);
    }

    /// Takes page 1 out, as in `eviction`.
    fn evict(&self) -> bool {
        let is_claimed = self.state.try_claim();
        if is_claimed {
            assert!(self.latch.try_exclusive(), "a latch is held under a pin");
            self.page.store(NO_PAGE, Ordering::Relaxed);
            self.latch.release_exclusive(&self.parking);
        }
        is_claimed
    }

    /// Eviction of page 1, and the loading of page 2 into the frame, as in `Pool::publish`.
    fn reuse(&self) {
        if !self.evict() {
            return;
        }
        self.latch.exclusive(&self.parking);
        self.words.iter().for_each(|word| word.store(2, Ordering::Relaxed));
        self.page.store(2, Ordering::Relaxed);
        self.latch.release_exclusive(&self.parking);
        self.state.publish();
        self.state.unpin();
    }

    /// The words of `page`, read without pin or latch.
    fn optimistic(&self, page: u64) -> Option<[u64; 2]> {
        let version = self.latch.version()?;
        if self.page.load(Ordering::Relaxed) != page {
            return None;
        }
        let words = self.words();
        self.latch.validate(version).then_some(words)
    }

    /// The words of `page`, read under a pin taken by a hint.
    fn pinned(&self, page: u64) -> Option<[u64; 2]> {
        if !self.state.try_pin() {
            return None;
        }
        let is_here = self.page.load(Ordering::Relaxed) == page;
        let words = is_here.then(|| {
            self.latch.shared(&self.parking);
            let words = self.words();
            self.latch.release_shared(&self.parking);
            words
        });
        self.state.unpin();
        words
    }
}

#[test]
fn optimistic_reader_sees_one_state_of_a_page_that_is_changed() {
    explore(4, || {
        let frame = Frame::new();
        let writer = thread::spawn({
            let frame = Arc::clone(&frame);
            move || frame.store(3)
        });
        if let Some([first, second]) = frame.optimistic(1) {
            assert_eq!(first, second);
        }
        writer.join().unwrap();
        assert_eq!(frame.optimistic(1), Some([3, 3]));
    });
}

#[test]
fn optimistic_reader_never_takes_another_page_for_its_own() {
    explore(4, || {
        let frame = Frame::new();
        let evictor = thread::spawn({
            let frame = Arc::clone(&frame);
            move || frame.reuse()
        });
        assert!(frame.optimistic(1).is_none_or(|words| words == [1, 1]));
        assert!(frame.optimistic(2).is_none_or(|words| words == [2, 2]));
        evictor.join().unwrap();
        assert_eq!(frame.optimistic(2), Some([2, 2]));
    });
}

#[test]
fn optimistic_reader_finds_no_old_copy_of_a_page_that_moved_and_changed() {
    explore(4, || {
        let frame = Frame::new();
        // Set when page 1 has been loaded into another frame and changed there.
        let is_changed = Arc::new(AtomicU64::new(0));
        let mover = thread::spawn({
            let (frame, is_changed) = (Arc::clone(&frame), Arc::clone(&is_changed));
            move || {
                assert!(frame.evict());
                is_changed.store(1, Ordering::Release);
            }
        });
        let was_changed = is_changed.load(Ordering::Acquire) == 1;
        let found = frame.optimistic(1);
        assert!(!(was_changed && found.is_some()), "an old copy");
        mover.join().unwrap();
    });
}

#[test]
fn pin_by_a_hint_keeps_the_page_or_fails() {
    explore(3, || {
        let frame = Frame::new();
        let evictor = thread::spawn({
            let frame = Arc::clone(&frame);
            move || frame.reuse()
        });
        let other = thread::spawn({
            let frame = Arc::clone(&frame);
            move || assert!(frame.pinned(2).is_none_or(|words| words == [2, 2]))
        });
        assert!(frame.pinned(1).is_none_or(|words| words == [1, 1]));
        evictor.join().unwrap();
        other.join().unwrap();
        assert!(!frame.state.is_held());
    });
}

#[test]
fn nobody_sleeps_while_the_latch_is_free() {
    // Loom reports a thread that is never woken as a deadlock.
    explore(3, || {
        let frame = Frame::new();
        let threads: Vec<_> = [2, 3]
            .map(|value| {
                let frame = Arc::clone(&frame);
                thread::spawn(move || frame.store(value))
            })
            .into();
        frame.latch.shared(&frame.parking);
        let [first, second] = frame.words();
        assert_eq!(first, second);
        frame.latch.release_shared(&frame.parking);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// One page with its log and disk, each a number: ENDs of records, 10 bytes each.
struct Page {
    table: DirtyTable,
    parking: Parking,
    latch: Latch,
    page_lsn: AtomicU64,
    reserved: AtomicU64,
    /// Odd while a record is being appended.
    sequence: AtomicU64,
    /// `page_lsn` of what is synced.
    synced: AtomicU64,
}

const PAGE: PageId = PageId::new(7);

impl Page {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            table: DirtyTable::with_shards(1, 1),
            parking: Parking::new(),
            latch: Latch::new(),
            page_lsn: AtomicU64::new(10),
            reserved: AtomicU64::new(10),
            sequence: AtomicU64::new(0),
            synced: AtomicU64::new(10),
        })
    }

    /// A record on the page; its END.
    fn append(&self) {
        self.latch.exclusive(&self.parking);
        self.sequence.fetch_add(1, Ordering::SeqCst);
        let mark = self.table.enter(PAGE, || Lsn::new(self.reserved.load(Ordering::SeqCst)));
        let end = self.reserved.fetch_add(10, Ordering::SeqCst) + 10;
        self.table.touched(mark, Lsn::new(end));
        self.sequence.fetch_add(1, Ordering::SeqCst);
        self.page_lsn.store(end, Ordering::Relaxed);
        self.latch.release_exclusive(&self.parking);
    }

    /// The page's way to disk, as in `writeback::writer`.
    fn clean(&self) {
        if self.table.begin_write(PAGE).is_none() {
            return;
        }
        self.latch.shared(&self.parking);
        let image_lsn = self.page_lsn.load(Ordering::Relaxed);
        self.latch.release_shared(&self.parking);
        self.table.written(PAGE, Lsn::new(image_lsn));
        self.synced.store(image_lsn, Ordering::SeqCst);
        let is_latched = self.latch.try_shared();
        let page_lsn = is_latched.then(|| Lsn::new(self.page_lsn.load(Ordering::Relaxed)));
        self.table.complete(PAGE, page_lsn);
        if is_latched {
            self.latch.release_shared(&self.parking);
        }
    }

    /// The checkpoint's look at the page; checks C1 against what is synced afterwards, which is the
    /// least that recovery finds.
    fn checkpoint(&self) {
        let begin_lsn = self.reserved.load(Ordering::SeqCst);
        let sequence = self.sequence.load(Ordering::SeqCst);
        if sequence % 2 == 1 {
            while self.sequence.load(Ordering::SeqCst) == sequence {
                thread::yield_now();
            }
        }
        let copied = self.table.copy_shard(0);
        let synced = self.synced.load(Ordering::SeqCst);
        if begin_lsn <= synced {
            return;
        }
        // Records up to begin_lsn are missing on disk, the first one from `synced` on.
        let [DirtyPage { rec_lsn, last_lsn, .. }] = copied[..] else {
            panic!("C1: records from {synced} to {begin_lsn} are listed nowhere");
        };
        assert!(rec_lsn.get() <= synced, "P1: redo from {rec_lsn}, the disk has {synced}");
        assert!(last_lsn.get() >= begin_lsn, "the last record below {begin_lsn} is {last_lsn}");
    }

    /// P2: what is in no table is on disk.
    fn check_at_rest(&self) {
        let (synced, page_lsn) =
            (self.synced.load(Ordering::SeqCst), self.page_lsn.load(Ordering::SeqCst));
        match self.table.min_rec_lsn() {
            None => assert_eq!(synced, page_lsn, "P2"),
            Some(rec_lsn) => assert!(rec_lsn.get() <= synced.min(page_lsn), "P1"),
        }
    }
}

#[test]
fn checkpoint_misses_no_page_that_a_writer_dirties_and_a_cleaner_cleans() {
    explore(3, || {
        let page = Page::new();
        let writer = thread::spawn({
            let page = Arc::clone(&page);
            move || page.append()
        });
        let cleaner = thread::spawn({
            let page = Arc::clone(&page);
            move || page.clean()
        });
        page.checkpoint();
        writer.join().unwrap();
        cleaner.join().unwrap();
        page.check_at_rest();
    });
}

#[test]
fn page_changed_during_its_write_stays_in_the_table() {
    explore(3, || {
        let page = Page::new();
        page.append();
        let writer = thread::spawn({
            let page = Arc::clone(&page);
            move || page.append()
        });
        let cleaner = thread::spawn({
            let page = Arc::clone(&page);
            move || page.clean()
        });
        page.checkpoint();
        writer.join().unwrap();
        cleaner.join().unwrap();
        page.check_at_rest();
        page.clean();
        assert!(page.table.is_empty());
    });
}

#[test]
fn two_cleaners_never_write_a_page_at_once() {
    explore(3, || {
        let page = Page::new();
        page.append();
        let writing = Arc::new(AtomicU64::new(0));
        let cleaners: Vec<_> = (0..2)
            .map(|_| {
                let (page, writing) = (Arc::clone(&page), Arc::clone(&writing));
                thread::spawn(move || {
                    if page.table.begin_write(PAGE).is_some() {
                        assert_eq!(writing.fetch_add(1, Ordering::SeqCst), 0, "P3");
                        page.table.written(PAGE, Lsn::new(20));
                        writing.fetch_sub(1, Ordering::SeqCst);
                        page.table.complete(PAGE, None);
                    }
                })
            })
            .collect();
        cleaners.into_iter().for_each(|cleaner| cleaner.join().unwrap());
        assert_eq!(page.table.oldest(1), [(Lsn::new(20), PAGE)]);
    });
}
