//! Names in a database's directory. That of the control file is [`CONTROL_NAME`], those of the
//! log's files are made by `seawall_wal`.
//!
//! [`CONTROL_NAME`]: seawall_wal::control::CONTROL_NAME

/// The lock, held while the database is open.
pub const LOCK_NAME: &str = "LOCK";
/// The page file.
pub const PAGES_NAME: &str = "pages";
/// Images of pages that are being written.
pub const DOUBLEWRITE_NAME: &str = "doublewrite";
/// Folder of the log.
pub const WAL_NAME: &str = "wal";
/// Folder of undo information that was moved out of the log.
pub const UNDO_NAME: &str = "undo";
/// Stands in a backup until it is complete.
pub const UNFINISHED_NAME: &str = "unfinished";
