//! How large things may be. Beyond a limit is [`Error::InvalidArgument`](crate::Error).

/// Longest key in bytes. The shortest is 1: empty keys are refused.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value in bytes, 1 GiB. Values may be empty.
pub const MAX_VALUE_BYTES: usize = 1 << 30;
/// Longest name of a tree in bytes of UTF-8. The shortest is 1.
pub const MAX_TREE_NAME_BYTES: usize = 255;
