//! Pages: their formats, and the one function that changes them.
//!
//! Everything here is pure: no I/O, no latches, no clock, no memory shared between calls. Where a
//! page's bytes live is the caller's matter: see [`PageRead`] and [`PageWrite`].
//!
//! # Map
//!
//! Imports run from below to above.
//!
//! | file | owns |
//! |---|---|
//! | `bytes` | the seam to the memory that holds a page, [`PageBuf`] |
//! | `header` | the header's table, [`PageView`], the checksum |
//! | `key` | a key in two pieces |
//! | `search` | the search among sorted slots |
//! | `node` | slots, fences, prefix: what leaves and inner nodes share |
//! | `leaf`, `inner`, `bitmap`, `overflow` | the four kinds of pages |
//! | `optimistic` | leaves and inner nodes that may be changing |
//! | `build` | new contents, images, root growth |
//! | `split` | where nodes split and which merge, and why a split always succeeds |
//! | `verify`, `check` | what a read checks, and what else must hold |
//! | `space`, `apply` | changes |
//!
//! # Protocol
//!
//! *Reading a page from disk*: 1. read it; 2. [`verify()`] it (invariant P4): an error is damage of the
//! file, [`Verified::NeverWritten`] is a page that was never written, which only recovery may meet;
//! 3. look at it through the view of its kind.
//!
//! *Changing a page*, under its latch: 1. ask whether the operation fits ([`LeafView::fits_put`],
//! [`InnerView::fits_insert_child`]); 2. log it; 3. [`apply()`] it, where an error is a broken
//! invariant; 4. [`set_page_lsn`] to the END of the record. Redo does 3 and 4, and there an error is
//! corruption.
//!
//! *Splitting a node*: 1. [`split_plan`]; 2. [`right_half`] gives the new page, which the record
//! carries as an `Image` ([`image_of`]); 3. the old page gets `SplitOff`, its parent `InsertChild`.
//! The root splits below itself: [`grow_root`] gives the images of a new child, which takes over its
//! content, and of the root, which keeps its id; the child is then split like any other node.
//!
//! *Merging*: 1. [`can_merge`]; 2. the left page gets `Absorb` with the image of the right one, the
//! parent `RemoveChild`, the bitmap `Release`. A root with a single child takes over that child's
//! content: [`collapse_root`].
//!
//! *Writing a page to disk*: 1. copy it; 2. [`seal`] the copy.
//!
//! # What holds
//!
//! * The same operation on the same bytes gives the same bytes: redo repeats history byte for byte,
//!   apart from checksums.
//! * Whether an operation fits depends on the page's logical content alone: fences, keys, cells. Two
//!   pages of equal content answer alike, whatever happened to them before. Hence redo, which works
//!   by key, never fails where the original succeeded, even on a page laid out anew in between.
//! * A cell's *footprint* (stamp, value, kept capacity) is never smaller than that of a content its
//!   writer may have to roll back to, if it keeps [`kept_capacity_bytes`]; so rollback fits in place,
//!   also after splits and merges, which move footprints whole (invariant T2). Only `Settle` and
//!   `Remove` make it smaller.
//! * A split always succeeds, for any keys and any fences: the proof is in the file `split`.
//! * Views panic on no bytes, optimistic nodes on none that change under them: these give wrong answers
//!   then, which their reader throws away. On a verified page that stays as it is both say what was
//!   written.
//!   [`apply()`], splits and merges want a verified page.
//! * Every byte that nothing uses is zero.
#![forbid(unsafe_code)]

mod apply;
mod bitmap;
mod build;
mod bytes;
mod check;
mod header;
#[cfg(test)]
mod hostile;
mod inner;
mod key;
mod leaf;
#[cfg(test)]
mod model;
mod node;
mod optimistic;
mod overflow;
mod search;
mod space;
mod split;
mod verify;

pub use apply::{ApplyError, apply};
pub use bitmap::{BitmapView, index_of, page_of, pages_per_bitmap};
pub use build::{
    NodeSpec, collapse_root, empty_bitmap, empty_leaf, grow_root, image_of, inner_with_child,
    overflow_page, right_half,
};
pub use bytes::{PageBuf, PageLoad, PageRead, PageWrite};
pub use check::{Finding, check};
pub use header::{
    HEADER_BYTES, IMAGE_START, NodeLabel, PAGE_BYTES, PageKind, PageView, checksum, seal,
    set_page_lsn,
};
pub use inner::{Child, InnerView, children_min};
pub use key::Key;
pub use leaf::{
    LeafView, OVERFLOW_LINK_BYTES_MAX, STAMP_BYTES, footprint_bytes, inline_value_bytes_max,
    kept_capacity_bytes,
};
pub use node::{MAX_KEY_BYTES, NodeView, cell_bytes_max, content_bytes};
pub use optimistic::{OptimisticCell, OptimisticNode};
pub use overflow::{OverflowView, payload_bytes_max};
pub use split::{Incoming, SplitPlan, can_merge, is_sparse, split_plan};
pub use verify::{Verified, verify};
