//! The disk that a database is opened on.

use std::io;
use std::sync::Arc;

use super::{BlockingDisk, Disk, DiskKind};

/// The disk of a kind. [`io::ErrorKind::Unsupported`], or what the kernel said, where
/// [`DiskKind::Uring`] is not to be had.
pub fn select(kind: DiskKind) -> io::Result<Arc<dyn Disk>> {
    match kind {
        DiskKind::Auto => Ok(uring().unwrap_or_else(|_refused| Arc::new(BlockingDisk::new()))),
        DiskKind::Uring => uring(),
        DiskKind::Blocking => Ok(Arc::new(BlockingDisk::new())),
    }
}

#[cfg(all(target_os = "linux", feature = "io-uring"))]
fn uring() -> io::Result<Arc<dyn Disk>> {
    Ok(Arc::new(super::UringDisk::probe()?))
}

#[cfg(not(all(target_os = "linux", feature = "io-uring")))]
fn uring() -> io::Result<Arc<dyn Disk>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no io_uring"))
}

#[cfg(test)]
mod tests {
    use super::{DiskKind, select};

    #[test]
    fn blocking_is_what_was_asked_for() {
        assert_eq!(select(DiskKind::Blocking).unwrap().name(), "blocking");
    }

    #[test]
    fn auto_always_finds_a_disk() {
        let name = select(DiskKind::default()).unwrap().name();
        let expected = select(DiskKind::Uring).map_or("blocking", |disk| disk.name());
        assert_eq!(name, expected);
    }
}
