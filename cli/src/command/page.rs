//! `seawall page`: one page, byte fields beside their meaning, damaged or not.

use std::fmt;

use clap::Args;
use seawall::page::{
    self, BitmapView, InnerView, LeafView, NodeView, OverflowView, PageKind, PageView, Verified,
};
use seawall_wal::PageId;
use seawall_wal::disk::AlignedBuf;
use serde::Serialize;

use crate::bytes;
use crate::database::DatabaseArg;
use crate::failure::Failure;
use crate::inspect::Files;
use crate::output::{self, Output};

/// Print a page: header, keys and values
#[derive(Args, Debug)]
pub(crate) struct Page {
    #[command(flatten)]
    database: DatabaseArg,
    /// Number of the page
    page_id: u64,
}

/// What a page says.
#[derive(Serialize)]
struct Description {
    page: u64,
    kind: &'static str,
    tree: u64,
    level: u8,
    page_lsn: u64,
    checksum: String,
    /// What is wrong with it.
    damage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_pages: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_key: Option<String>,
}

#[derive(Serialize)]
struct Node {
    low_fence: String,
    high_fence: Option<String>,
    right_sibling: u64,
    prefix: String,
    free_bytes: usize,
    cells: Vec<CellRow>,
}

#[derive(Serialize)]
struct CellRow {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    flags: Vec<String>,
}

impl Page {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let files = Files::open(&self.database)?;
        let pages = files.pages()?;
        let mut buffer = AlignedBuf::new(files.page_bytes());
        let read = pages.read_page(PageId::new(self.page_id), &mut buffer);
        if self.page_id >= pages.pages() {
            let count = pages.pages();
            return Err(Failure::Failed(format!("the file has pages 0 to {}", count.max(1) - 1)));
        }
        let damage = match read {
            Ok(Verified::NeverWritten) => None,
            Ok(Verified::Page(_)) => page::check(&buffer).err().map(|finding| finding.to_string()),
            Err(error) => Some(error.to_string()),
        };
        out.result(&Description::of(self.page_id, &buffer, damage.clone()))?;
        match damage {
            None => Ok(()),
            Some(damage) => Err(Failure::Failed(format!("page {}: {damage}", self.page_id))),
        }
    }
}

impl Description {
    /// The accessors do not panic on a damaged page, they only do not say what was written.
    fn of(page_id: u64, bytes: &[u8], damage: Option<String>) -> Self {
        let header = PageView::new(bytes);
        let kind = header.kind();
        let is_whole = damage.is_none();
        let overflow = (is_whole && kind == PageKind::Overflow).then(|| OverflowView::new(bytes));
        Self {
            page: page_id,
            kind: kind_name(kind),
            tree: header.tree().get(),
            level: header.level(),
            page_lsn: header.page_lsn().get(),
            checksum: format!("{:#010x}", header.checksum()),
            damage,
            node: if is_whole { Node::of(kind, bytes) } else { None },
            allocated_pages: (is_whole && kind == PageKind::Bitmap)
                .then(|| BitmapView::new(bytes).count()),
            payload_bytes: overflow.map(|view| view.payload().len()),
            owner_key: overflow.map(|view| bytes::show(view.owner_key())),
        }
    }
}

fn kind_name(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Free => "never written",
        PageKind::Bitmap => "bitmap",
        PageKind::Inner => "inner node",
        PageKind::Leaf => "leaf",
        PageKind::Overflow => "overflow",
    }
}

impl Node {
    fn of(kind: PageKind, page_bytes: &[u8]) -> Option<Self> {
        let cells = match kind {
            PageKind::Leaf => leaf_cells(LeafView::new(page_bytes)),
            PageKind::Inner => inner_cells(InnerView::new(page_bytes)),
            PageKind::Free | PageKind::Bitmap | PageKind::Overflow => return None,
        };
        let node = NodeView::new(page_bytes);
        Some(Self {
            low_fence: bytes::show(&node.low_fence().to_vec()),
            high_fence: node.high_fence().map(|key| bytes::show(&key.to_vec())),
            right_sibling: node.right_sibling().get(),
            prefix: bytes::show(node.prefix()),
            free_bytes: node.free_bytes_logical(),
            cells,
        })
    }
}

fn leaf_cells(leaf: LeafView<'_>) -> Vec<CellRow> {
    let row = |slot| {
        let cell = leaf.cell_at(slot);
        CellRow {
            key: bytes::show(&leaf.key_at(slot).to_vec()),
            child: None,
            value: Some(output::shortened(cell.value)),
            flags: output::cell_marks(&cell),
        }
    };
    (0..leaf.count()).map(row).collect()
}

fn inner_cells(inner: InnerView<'_>) -> Vec<CellRow> {
    let row = |slot| CellRow {
        key: bytes::show(&inner.separator(slot).to_vec()),
        child: Some(inner.child_page(slot).get()),
        value: None,
        flags: Vec::new(),
    };
    (0..inner.count()).map(row).collect()
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, kind, tree, level, page_lsn, checksum, .. } = self;
        writeln!(f, "page {page}: {kind}, tree {tree}, level {level}")?;
        write!(f, "page_lsn {page_lsn}, checksum {checksum}")?;
        if let Some(damage) = &self.damage {
            write!(f, "\ndamaged: {damage}")?;
        }
        if let Some(node) = &self.node {
            write!(f, "\n{node}")?;
        }
        if let Some(count) = self.allocated_pages {
            write!(f, "\n{count} pages of its range are in use")?;
        }
        if let (Some(count), Some(owner)) = (self.payload_bytes, &self.owner_key) {
            write!(f, "\n{count} bytes of a value; owner's key {owner}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low_fence, right_sibling, prefix, free_bytes, cells, .. } = self;
        let high_fence = self.high_fence.as_deref().unwrap_or("none");
        writeln!(f, "keys from {low_fence}, up to {high_fence}; right sibling {right_sibling}")?;
        write!(f, "{} cells, prefix {prefix}, {free_bytes} bytes free", cells.len())?;
        for (slot, cell) in cells.iter().enumerate() {
            write!(f, "\n{slot:>5}  {}", cell.key)?;
            if let Some(child) = cell.child {
                write!(f, "  -> page {child}")?;
            }
            if let Some(value) = &cell.value {
                write!(f, "  = {value}")?;
            }
            if !cell.flags.is_empty() {
                write!(f, "  ({})", cell.flags.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use seawall::page::{
        Key, NodeSpec, PageRead, apply, empty_bitmap, empty_leaf, inner_with_child,
    };
    use seawall_wal::TreeId;
    use seawall_wal::record::{Cell, Op, WriteKind};

    use super::*;

    const PAGE_BYTES: usize = 4096;

    fn spec() -> NodeSpec<'static> {
        let (low, high) = (Key::whole(b"pear"), Some(Key::whole(b"peas")));
        let (page, right_sibling) = (PageId::new(7), PageId::new(9));
        NodeSpec { page, tree: TreeId::new(3), level: 0, low, high, right_sibling }
    }

    #[test]
    fn a_leaf_shows_fences_keys_values_and_flags() {
        let mut page = empty_leaf(PAGE_BYTES, &spec());
        let ghost = Cell { is_ghost: true, capacity_bytes: 12, ..Cell::default() };
        let long = Cell { value: &[b'v'; 50], ..Cell::default() };
        for (key, after) in [(&b"pear"[..], ghost), (b"pear tree", long)] {
            let (tree, kind) = (TreeId::new(3), WriteKind::Insert);
            let put = Op::Put { tree, key, kind, after, before: None };
            apply(&mut page, PageId::new(7), &put).unwrap();
        }
        let text = Description::of(7, page.bytes(), None).to_string();
        let expected = format!(
            "    0  pear  = text:  (ghost, keeps 12 bytes)\n    1  pear tree  = {}.. (50 bytes)",
            "v".repeat(40)
        );
        assert!(text.starts_with("page 7: leaf, tree 3, level 0\n"), "{text}");
        assert!(text.contains("keys from pear, up to peas; right sibling 9\n2 cells, "), "{text}");
        assert!(text.ends_with(&expected), "{text}");
    }

    #[test]
    fn an_inner_node_shows_its_children_and_a_bitmap_its_count() {
        let spec = NodeSpec { level: 1, ..spec() };
        let inner = inner_with_child(PAGE_BYTES, &spec, PageId::new(11));
        let text = Description::of(7, inner.bytes(), None).to_string();
        assert!(text.ends_with("\n    0  pear  -> page 11"), "{text}");
        let bitmap = empty_bitmap(PAGE_BYTES, PageId::new(0));
        let text = Description::of(0, bitmap.bytes(), None).to_string();
        assert!(text.contains("page 0: bitmap") && text.contains("in use"), "{text}");
    }

    #[test]
    fn any_bytes_can_be_shown_as_a_damaged_page() {
        for byte in [0, 1, 3, 0xff] {
            let text = Description::of(5, &[byte; PAGE_BYTES], Some("why".into())).to_string();
            assert!(text.ends_with("damaged: why"), "{text}");
        }
    }
}
