//! Pages: their formats, and the one function that changes them.
#![forbid(unsafe_code)]

mod apply;
mod bitmap;
mod build;
mod bytes;
mod check;
mod header;
mod inner;
mod key;
mod leaf;
#[cfg(test)]
mod model;
mod node;
mod overflow;
mod split;
mod verify;

pub use apply::{ApplyError, apply};
pub use bitmap::{BitmapView, index_of, page_of, pages_per_bitmap};
pub use build::{
    NodeSpec, collapse_root, empty_bitmap, empty_leaf, grow_root, image_of, inner_with_child,
    overflow_page, right_half,
};
pub use bytes::{PageBuf, PageRead, PageWrite};
pub use check::{Finding, check};
pub use header::{
    HEADER_BYTES, IMAGE_START, PAGE_BYTES, PageKind, PageView, checksum, seal, set_page_lsn,
};
pub use inner::{Child, InnerView, children_min};
pub use key::Key;
pub use leaf::{
    LeafView, OVERFLOW_LINK_BYTES_MAX, STAMP_BYTES, footprint_bytes, inline_value_bytes_max,
    kept_capacity_bytes,
};
pub use node::{MAX_KEY_BYTES, NodeView, cell_bytes_max, content_bytes};
pub use overflow::{OverflowView, payload_bytes_max};
pub use split::{Incoming, SplitPlan, can_merge, is_sparse, split_plan};
pub use verify::{Verified, verify};
