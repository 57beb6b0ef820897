//! How large things may be, and how many. Larger than a limit is
//! [`Error::InvalidArgument`](crate::Error::InvalidArgument).

/// Longest key in bytes. The shortest is 1: empty keys are refused.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value in bytes, 1 GiB. Values may be empty.
pub const MAX_VALUE_BYTES: usize = 1 << 30;
/// Longest name of a tree in bytes of UTF-8. The shortest is 1.
pub const MAX_TREE_NAME_BYTES: usize = 255;
/// Most transactions that have written and not ended. The first write of one more gets
/// [`Error::Conflict`](crate::Error::Conflict), as if another one stood in its way: run it again.
pub const MAX_WRITING_TRANSACTIONS: usize = 16_384;
