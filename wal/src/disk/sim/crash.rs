//! What a power cut leaves.
//!
//! A medium takes or loses sectors of 512 bytes, each whole. Of a file's unsynced writes any may have
//! reached it, in any order; directory entries go by the file system's journal (see `names.rs`).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
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
    /// Of each write its first sectors, and of each directory's changes a prefix, by this seed.
    AllTorn {
        /// What decides.
        seed: u64,
    },
    /// The writes up to one, in the order in which they were made, by this seed; every name.
    Prefix {
        /// What decides.
        seed: u64,
    },
    /// All of one file, nothing of the others, by this seed; every name.
    OneFile {
        /// What decides.
        seed: u64,
    },
    /// The bytes of all files, and no name.
    NamesLost,
    /// Every name, and no bytes.
    BytesLost,
}

impl CrashPlan {
    /// Names of the plans, those that differ in their seeds alone under one.
    pub const NAMES: [&str; 10] = [
        "nothing unsynced",
        "everything",
        "names lost",
        "bytes lost",
        "torn",
        "sectors",
        "reordered",
        "all torn",
        "prefix",
        "one file",
    ];

    /// Index of its name in [`Self::NAMES`].
    #[must_use]
    pub const fn kind(self) -> usize {
        match self {
            Self::NothingUnsynced => 0,
            Self::Everything => 1,
            Self::NamesLost => 2,
            Self::BytesLost => 3,
            Self::Torn { .. } => 4,
            Self::Sectors { .. } => 5,
            Self::Reordered { .. } => 6,
            Self::AllTorn { .. } => 7,
            Self::Prefix { .. } => 8,
            Self::OneFile { .. } => 9,
        }
    }

    /// Every plan without a seed, and every plan with one for each of these seeds.
    pub fn all(seeds: std::ops::Range<u64>) -> impl Iterator<Item = Self> {
        let seeded = seeds.flat_map(|seed| {
            [
                Self::Torn { seed },
                Self::Sectors { seed },
                Self::Reordered { seed },
                Self::AllTorn { seed },
                Self::Prefix { seed },
                Self::OneFile { seed },
            ]
        });
        let plain = [Self::NothingUnsynced, Self::Everything, Self::NamesLost, Self::BytesLost];
        plain.into_iter().chain(seeded)
    }
}

/// Names what a crash left of the unsynced changes: two crashes of one disk with the same mark left
/// the same.
pub(super) type Mark = u64;

/// Files and names as a crash leaves them, and their mark.
pub(super) fn crash(
    inodes: &BTreeMap<InodeId, Arc<Inode>>,
    names: &Names,
    plan: CrashPlan,
) -> (BTreeMap<InodeId, Arc<Inode>>, Names, Mark) {
    let mut survival = Survival::new(inodes, plan);
    let entries = names.after_crash(|| survival.of_a_name());
    let left = files(&entries).map(|id| {
        let inode = inodes.get(&id).expect("a file that a crash may leave is kept");
        (id, Arc::new(Inode::settled(survival.of_a_file(id, inode))))
    });
    let left = left.collect();
    (left, Names::settled(entries), survival.mark.finish())
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
    /// The last write of those that survive.
    last_write: Option<u64>,
    /// The file that survives.
    file: Option<InodeId>,
    /// Takes in what is decided.
    mark: DefaultHasher,
}

impl Survival {
    fn new(inodes: &BTreeMap<InodeId, Arc<Inode>>, plan: CrashPlan) -> Self {
        let seed = match plan {
            CrashPlan::NothingUnsynced
            | CrashPlan::Everything
            | CrashPlan::NamesLost
            | CrashPlan::BytesLost => 0,
            CrashPlan::Sectors { seed }
            | CrashPlan::Torn { seed }
            | CrashPlan::Reordered { seed }
            | CrashPlan::AllTorn { seed }
            | CrashPlan::Prefix { seed }
            | CrashPlan::OneFile { seed } => seed,
        };
        let mut random = Random::new(seed);
        let eighths = random.below(7) + 1;
        let is_unsynced = |pending: &&Pending| {
            !pending.is_durable && matches!(pending.change, Change::Write { .. })
        };
        let unsynced = inodes.iter().flat_map(|(&id, inode)| {
            inode.pending().iter().filter(is_unsynced).map(move |pending| (pending.operation, id))
        });
        let mut unsynced: Vec<_> = unsynced.collect();
        unsynced.sort_unstable();
        let (mut last_write, mut file) = (unsynced.last().map(|&(operation, _)| operation), None);
        if !unsynced.is_empty() {
            let (operation, id) = unsynced[to_usize(random.below(to_u64(unsynced.len())))];
            match plan {
                CrashPlan::Prefix { .. } => last_write = Some(operation),
                CrashPlan::OneFile { .. } => file = Some(id),
                _ => {}
            }
        }
        Self { plan, random, eighths, last_write, file, mark: DefaultHasher::new() }
    }

    fn of_a_name(&mut self) -> bool {
        let survives = match self.plan {
            CrashPlan::NothingUnsynced | CrashPlan::NamesLost => false,
            CrashPlan::Everything
            | CrashPlan::Torn { .. }
            | CrashPlan::Prefix { .. }
            | CrashPlan::OneFile { .. }
            | CrashPlan::BytesLost => true,
            CrashPlan::Sectors { .. } | CrashPlan::Reordered { .. } | CrashPlan::AllTorn { .. } => {
                self.random.chance(self.eighths)
            }
        };
        self.mark.write_u8(u8::from(survives));
        survives
    }

    fn of_a_file(&mut self, id: InodeId, inode: &Inode) -> Image {
        self.mark.write_u64(id);
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
                    journal_goes_on = journal_goes_on && self.of_a_length();
                    if journal_goes_on {
                        image.set_len(*length);
                    }
                }
                Change::Write { offset, bytes } => {
                    self.write(id, &mut image, pending, *offset, bytes);
                }
            }
        }
        image
    }

    /// A cut or an extension of a file whose bytes are lost may survive all the same.
    fn of_a_length(&mut self) -> bool {
        if self.plan == CrashPlan::NamesLost {
            self.mark.write_u8(1);
            return true;
        }
        self.of_a_name()
    }

    /// Applies what survives of an unsynced write.
    fn write(
        &mut self,
        id: InodeId,
        image: &mut Image,
        pending: &Pending,
        offset: u64,
        bytes: &[u8],
    ) {
        let is_last = self.last_write == Some(pending.operation);
        let count = to_u64(sectors(offset, bytes).count());
        match self.plan {
            CrashPlan::NothingUnsynced | CrashPlan::BytesLost => {
                self.keep(image, offset, bytes, |_| false);
            }
            CrashPlan::Torn { .. } if is_last => {
                let kept = self.random.below(count.max(1));
                let start = if self.random.chance(4) { 0 } else { count - kept };
                self.keep(image, offset, bytes, |sector| (start..start + kept).contains(&sector));
            }
            CrashPlan::Everything | CrashPlan::NamesLost | CrashPlan::Torn { .. } => {
                self.keep(image, offset, bytes, |_| true);
            }
            CrashPlan::Reordered { .. } => {
                let survives = self.random.chance(self.eighths);
                self.keep(image, offset, bytes, |_| survives);
            }
            CrashPlan::AllTorn { .. } => {
                let kept = self.random.below(count + 1);
                self.keep(image, offset, bytes, |sector| sector < kept);
            }
            CrashPlan::Prefix { .. } => {
                let last = self.last_write.expect("this write is unsynced");
                self.keep(image, offset, bytes, |_| pending.operation <= last);
            }
            CrashPlan::OneFile { .. } => {
                let survives = self.file == Some(id);
                self.keep(image, offset, bytes, |_| survives);
            }
            CrashPlan::Sectors { .. } => {
                // A file may have got its new length and not the bytes: then it reads as zeros.
                let end = offset + to_u64(bytes.len());
                if end > image.length() && self.random.chance(2) {
                    self.mark.write_u8(1);
                    image.set_len(end);
                }
                let mut random = self.random.clone();
                let eighths = self.eighths;
                self.keep(image, offset, bytes, |_| random.chance(eighths));
                self.random = random;
            }
        }
    }

    /// Applies the sectors of a write, by their numbers in it, that survive.
    fn keep(
        &mut self,
        image: &mut Image,
        offset: u64,
        bytes: &[u8],
        mut survives: impl FnMut(u64) -> bool,
    ) {
        for ((offset, sector), number) in sectors(offset, bytes).zip(0..) {
            let is_kept = survives(number);
            self.mark.write_u8(u8::from(is_kept));
            if is_kept {
                image.write(offset, sector);
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
