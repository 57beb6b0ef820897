//! The check of an overflow value: its link, and the pages that the link names.
//!
//! Committed values stay while the walk's reader is registered. One that was not committed may go in
//! a rollback, which changes the cell first and frees the pages then: a finding stands only if the
//! cell still has the same link afterwards.

use seawall_wal::{PageId, Result};

use super::owners::pages_of;
use super::scan::Scan;
use super::tree::{LinkCell, is_damage};
use crate::catalogue::TreeInfo;
use crate::engine::OverflowLink;
use crate::page::{LeafView, OverflowView, PageKind, PageRead, PageView};
use crate::pool::SharedPage;
use crate::tree::Seek;

/// Notes the pages of a value as owned. Returns the link, unless it is damaged, which is a finding.
pub(super) fn own_value(
    scan: &mut Scan<'_>,
    tree: &TreeInfo,
    cell: &LinkCell,
) -> Result<OverflowLink, String> {
    let key = || format!("the value of key \"{}\" in tree {}", cell.key.escape_ascii(), tree.id);
    let damaged = |scan: &Scan<'_>, expected: String, found: String| {
        Err(scan.engine.corrupt_page(cell.leaf, expected, found).to_string())
    };
    let link = match OverflowLink::decode(&cell.link) {
        Ok(link) => link,
        Err(error) => {
            let expected = format!("{} in the link to {}", error.expected, key());
            return damaged(scan, expected, error.found);
        }
    };
    let pages = scan.engine.file.pages();
    for extent in &link.extents {
        let Some(ids) = pages_of(extent, pages) else {
            let expected = format!("{} within a file of {pages} pages", key());
            let found = format!("{} pages from page {}", extent.count, extent.first);
            return damaged(scan, expected, found);
        };
        ids.for_each(|page| scan.own(page, key));
    }
    Ok(link)
}

/// Reads the pages of a value whose link was accepted. Returns what is wrong.
///
/// # Errors
/// What is no damage.
pub(super) fn check_value(
    scan: &mut Scan<'_>,
    tree: &TreeInfo,
    cell: &LinkCell,
    link: &OverflowLink,
) -> Result<Option<(Vec<PageId>, String)>> {
    let Some((page, finding)) = read_value(scan, tree, cell, link)? else { return Ok(None) };
    let engine = scan.engine;
    let leaf: SharedPage<'_> = match engine.descent(tree).leaf(Seek::Key(&cell.key)) {
        Ok(leaf) => leaf,
        // The walk finds what stands in the way.
        Err(error) if is_damage(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let now = LeafView::new(leaf.bytes()).get(&cell.key);
    let is_linked = now.is_some_and(|now| now.is_overflow && now.value == cell.link);
    Ok(is_linked.then(|| (vec![page], finding)))
}

fn read_value(
    scan: &mut Scan<'_>,
    tree: &TreeInfo,
    cell: &LinkCell,
    link: &OverflowLink,
) -> Result<Option<(PageId, String)>> {
    let engine = scan.engine;
    let mut length = 0;
    let mut owner: &[u8] = &cell.key;
    for page in link.pages() {
        let pin = match engine.pool.pin(page) {
            Ok(pin) => pin,
            Err(error) if is_damage(&error) => {
                let finding = format!("page {page} of a value of tree {}: {error}", tree.id);
                return Ok(Some((page, finding)));
            }
            Err(error) => return Err(error),
        };
        let shared = pin.into_shared();
        let view = PageView::new(shared.bytes());
        let value = OverflowView::new(shared.bytes());
        let is_own = view.kind() == PageKind::Overflow
            && view.tree() == tree.id
            && value.owner_key() == owner;
        if !is_own {
            let (key, kind) = (cell.key.escape_ascii(), view.kind());
            let expected = format!("page {page} with the value of key \"{key}\" of {}", tree.id);
            let found = format!("page {} of tree {}, {kind:?}", view.page_id(), view.tree());
            let error = engine.corrupt_page(page, expected, found);
            return Ok(Some((page, error.to_string())));
        }
        length += value.payload().len();
        owner = &[];
        drop(shared);
        scan.progress.advance(1);
    }
    if length == link.length {
        return Ok(None);
    }
    let first = link.extents.first().map_or(cell.leaf, |extent| extent.first);
    let expected = format!("a value of {} bytes from page {first} on", link.length);
    let error = engine.corrupt_page(first, expected, format!("{length} bytes"));
    Ok(Some((first, error.to_string())))
}
