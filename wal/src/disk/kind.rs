//! Which disk is asked for.

/// Which system interface the file operations go through. All of them give the same answers.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskKind {
    /// io_uring where the kernel allows it, positional system calls elsewhere.
    #[default]
    Auto,
    /// io_uring; opening fails where the kernel, the sandbox or the build has none.
    Uring,
    /// Positional system calls.
    Blocking,
}
