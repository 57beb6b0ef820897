//! What a power cut leaves.
//!
//! A medium takes or loses sectors of 512 bytes, each whole. Of a file's unsynced writes any may have
//! reached it, in any order; directory entries go by the file system's journal (see `names.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::Image;
use super::inode::{Change, Inode, Pending};
use super::names::{Entries, Entry, InodeId, Names};
use super::random::Random;
use crate::codec::{to_u64, to_usize};

/// What a medium writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Which unsynced changes survive a power cut.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// None.
    NothingUnsynced,
    /// All, as when the process is killed and the machine goes on. (Of writes that were lost by a
    /// failed sync or a fault none survives here either; see [`super::SimDisk::fork`].)
    Everything,
    /// Each sector of each write, and of each directory's changes a prefix, by this seed.
    Sectors {
        /// What decides.
        seed: u64,
    },
    /// All but some sectors of the last write, of which a prefix or a suffix is kept, by this seed.
    Torn {
        /// What decides.
        seed: u64,
    },
    /// Each write, whole, and of each directory's changes a prefix, by this seed.
    Reordered {
        /// What decides.
        seed: u64,
    },
}

impl CrashPlan {
    /// Every plan without a seed, and every plan with one for each of these seeds.
    pub fn all(seeds: std::ops::Range<u64>) -> impl Iterator<Item = Self> {
        let seeded = seeds.flat_map(|seed| {
            [Self::Torn { seed }, Self::Sectors { seed }, Self::Reordered { seed }]
        });
        [Self::NothingUnsynced, Self::Everything].into_iter().chain(seeded)
    }
}

/// Files and names as a crash leaves them.
pub(super) fn crash(
    inodes: &BTreeMap<InodeId, Arc<Inode>>,
    names: &Names,
    plan: CrashPlan,
) -> (BTreeMap<InodeId, Arc<Inode>>, Names) {
    let mut survival = Survival::new(inodes, plan);
    let entries = names.after_crash(|| survival.of_a_name());
    let left = files(&entries).map(|id| {
        let inode = inodes.get(&id).expect("a file that a crash may leave is kept");
        (id, Arc::new(Inode::settled(survival.of_a_file(inode))))
    });
    let left = left.collect();
    (left, Names::settled(entries))
}

fn files(entries: &Entries) -> impl Iterator<Item = InodeId> {
    entries.values().filter_map(|entry| match entry {
        Entry::File(inode) => Some(*inode),
        Entry::Directory => None,
    })
}

/// A plan at work.
struct Survival {
    plan: CrashPlan,
    random: Random,
    /// How many of eight changes survive on average; drawn from the seed, so that some crashes lose
    /// little and some much.
    eighths: u64,
    /// The write that tears.
    last_write: Option<u64>,
}

impl Survival {
    fn new(inodes: &BTreeMap<InodeId, Arc<Inode>>, plan: CrashPlan) -> Self {
        let seed = match plan {
            CrashPlan::NothingUnsynced | CrashPlan::Everything => 0,
            CrashPlan::Sectors { seed }
            | CrashPlan::Torn { seed }
            | CrashPlan::Reordered { seed } => seed,
        };
        let mut random = Random::new(seed);
        let eighths = random.below(7) + 1;
        let unsynced = inodes.values().flat_map(|inode| inode.pending()).filter(|pending| {
            !pending.is_durable && matches!(pending.change, Change::Write { .. })
        });
        let last_write = unsynced.map(|pending| pending.operation).max();
        Self { plan, random, eighths, last_write }
    }

    fn of_a_name(&mut self) -> bool {
        match self.plan {
            CrashPlan::NothingUnsynced => false,
            CrashPlan::Everything | CrashPlan::Torn { .. } => true,
            CrashPlan::Sectors { .. } | CrashPlan::Reordered { .. } => {
                self.random.chance(self.eighths)
            }
        }
    }

    fn of_a_file(&mut self, inode: &Inode) -> Image {
        let mut image = inode.durable().clone();
        // Lengths are in the journal: of cuts and extensions a prefix survives.
        let mut journal_goes_on = true;
        for pending in inode.pending() {
            if pending.is_durable {
                pending.change.apply(&mut image);
                continue;
            }
            match &pending.change {
                Change::SetLen(length) => {
                    journal_goes_on = journal_goes_on && self.of_a_name();
                    if journal_goes_on {
                        image.set_len(*length);
                    }
                }
                Change::Write { offset, bytes } => {
                    self.write(&mut image, pending, *offset, bytes);
                }
            }
        }
        image
    }

    /// Applies what survives of an unsynced write.
    fn write(&mut self, image: &mut Image, pending: &Pending, offset: u64, bytes: &[u8]) {
        let torn = self.last_write == Some(pending.operation);
        match self.plan {
            CrashPlan::NothingUnsynced => {}
            CrashPlan::Torn { .. } if torn => {
                let count = to_u64(sectors(offset, bytes).count());
                let kept = self.random.below(count.max(1));
                let skipped = if self.random.chance(4) { 0 } else { count - kept };
                let sectors = sectors(offset, bytes).skip(to_usize(skipped)).take(to_usize(kept));
                sectors.for_each(|(offset, sector)| image.write(offset, sector));
            }
            CrashPlan::Everything | CrashPlan::Torn { .. } => image.write(offset, bytes),
            CrashPlan::Reordered { .. } => {
                if self.random.chance(self.eighths) {
                    image.write(offset, bytes);
                }
            }
            CrashPlan::Sectors { .. } => {
                // A file may have got its new length and not the bytes: then it reads as zeros.
                let end = offset + to_u64(bytes.len());
                if end > image.length() && self.random.chance(2) {
                    image.set_len(end);
                }
                for (offset, sector) in sectors(offset, bytes) {
                    if self.random.chance(self.eighths) {
                        image.write(offset, sector);
                    }
                }
            }
        }
    }
}

/// Cuts a write at the sectors of the file: offset and bytes of each.
pub(super) fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes.len() {
            return None;
        }
        let start = offset + to_u64(done);
        let within = to_usize(start) % SECTOR_BYTES;
        let end = (done + SECTOR_BYTES - within).min(bytes.len());
        let sector = &bytes[done..end];
        done = end;
        Some((start, sector))
    })
}
