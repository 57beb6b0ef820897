//! Which database it is: by `control`, or by the pages themselves where nothing of that can be read.
//!
//! The checksum of a page begins with a seed that follows from the database's id. A CRC can be run
//! backwards: from the bytes of a page and its checksum follows the seed. What several pages agree on is
//! the seed, and the page size at which they do is the page size.

use std::collections::HashMap;
use std::path::Path;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::control::{Control, ControlState};
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, OpenMode};
use seawall_wal::{PageId, Result};

use super::report::Sentences;
use crate::names::PAGES_NAME;
use crate::page::{PAGE_BYTES, PageKind, PageView};
use crate::pagefile::PageFormat;

/// Bytes of the page file that are asked.
const ASKED_BYTES_MAX: u64 = 16 << 20;
/// Pages that have to agree.
const PAGES_MIN: u64 = 2;
/// The reflected polynomial of CRC-32C (Castagnoli).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What is needed to read pages, and what `control` says beyond that.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) format: PageFormat,
    pub(super) state: Option<ControlState>,
}

/// Finds out which database lies in `dir`; `None` where nothing tells.
pub(super) fn identify(
    disk: &dyn Disk,
    dir: &Path,
    damage: &mut Sentences,
) -> Result<Option<Source>> {
    if let Err(error) = Control::open(disk, dir, true) {
        damage.add(error.to_string());
    }
    let state = Control::surviving_state(disk, dir)?
        .filter(|state| PAGE_BYTES.contains(&to_usize(u64::from(state.identity.page_bytes))));
    if let Some(state) = state {
        let page_bytes = to_usize(u64::from(state.identity.page_bytes));
        let format = PageFormat::new(state.identity.database, page_bytes);
        return Ok(Some(Source { format, state: Some(state) }));
    }
    let format = by_pages(disk, dir);
    Ok(format.map(|format| Source { format, state: None }))
}

/// The format that most pages agree on.
fn by_pages(disk: &dyn Disk, dir: &Path) -> Option<PageFormat> {
    let file = disk.open(&dir.join(PAGES_NAME), OpenMode::ReadOnly, Access::Direct).ok()?;
    let length = file.size().ok()?.length_bytes.min(ASKED_BYTES_MAX);
    let mut bytes = AlignedBuf::new(to_usize(length) / BLOCK_BYTES * BLOCK_BYTES);
    // What cannot be read stays zero, and says nothing.
    for (number, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        if file.read_at(block, to_u64(number * BLOCK_BYTES)).is_err() {
            block.fill(0);
        }
    }
    let mut votes: HashMap<(usize, u32), u64> = HashMap::new();
    for page_bytes in PAGE_BYTES {
        for (page, bytes) in (0..).map(PageId::new).zip(bytes.chunks_exact(page_bytes)) {
            let view = PageView::new(bytes);
            if view.kind() != PageKind::Free && view.page_id() == page {
                *votes.entry((page_bytes, seed_of(page, bytes))).or_default() += 1;
            }
        }
    }
    let ((page_bytes, seed), count) = votes.into_iter().max_by_key(|&(of, count)| (count, of))?;
    (count >= PAGES_MIN).then_some(PageFormat { page_bytes, seed })
}

/// The seed with which the page has the checksum that it says it has.
fn seed_of(page: PageId, bytes: &[u8]) -> u32 {
    const CHECKSUM_BYTES: usize = 4;
    let rest = bytes[CHECKSUM_BYTES..].iter().rev();
    let place = page.get().to_le_bytes();
    let backwards = rest.chain(place.iter().rev());
    !backwards.fold(!PageView::new(bytes).checksum(), |state, &byte| step_back(state, byte))
}

/// The state of a CRC before it took in `byte`.
fn step_back(state: u32, byte: u8) -> u32 {
    let undone = (0..u8::BITS).fold(state, |state, _| {
        // The polynomial's highest bit is set, that of a shifted state is not.
        if state >> 31 == 0 { state << 1 } else { ((state ^ POLYNOMIAL) << 1) | 1 }
    });
    undone ^ u32::from(byte)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use seawall_wal::TreeId;
    use seawall_wal::disk::SimDisk;

    use super::*;
    use crate::page::{NodeSpec, PageRead, empty_leaf, seal};
    use crate::{Database, Options};

    #[test]
    fn the_seed_of_a_checksum_follows_from_the_page() {
        for (number, seed) in [(0, 0), (1, u32::MAX), (7, 0x1234_5678), (1 << 40, 1)] {
            let page = PageId::new(number);
            let leaf = empty_leaf(4096, &NodeSpec::root(page, TreeId::new(3), 0));
            let mut bytes = leaf.bytes().to_vec();
            seal(seed, page, &mut bytes);
            assert_eq!(seed_of(page, &bytes), seed);
        }
    }

    #[test]
    fn pages_tell_their_size_and_seed_where_control_is_gone() {
        let dir = Path::new("/db");
        for page_bytes in [4096_u32, 16_384] {
            let disk = SimDisk::new();
            let options = Options::new().disk_injected(Arc::new(disk.clone()));
            let database: Database = options.page_bytes(page_bytes).open(dir).unwrap();
            database.tree("t").unwrap().insert("k", "v").unwrap();
            database.close().unwrap();
            let mut damage = Sentences::default();
            let known = identify(&disk, dir, &mut damage).unwrap().unwrap();
            assert!(known.state.is_some());
            disk.remove_file(&dir.join("control")).unwrap();
            let guessed = identify(&disk, dir, &mut damage).unwrap().unwrap();
            assert!(guessed.state.is_none());
            assert_eq!(guessed.format, known.format);
            disk.write_file(&dir.join(PAGES_NAME), &[0; 40_000]);
            assert!(identify(&disk, dir, &mut damage).unwrap().is_none());
        }
    }
}
