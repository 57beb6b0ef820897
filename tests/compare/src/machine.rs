//! The machine in general terms, as a comparison has to name it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor, statfs};

/// Magic numbers of file systems, as `statfs` gives them.
const FILE_SYSTEMS: [(i64, &str); 5] = [
    (0xef53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0x2fc1_2fc1, "ZFS"),
    (0x0102_1994, "tmpfs: no disk at all"),
];

/// Processors, memory, disk and file system of `dir`.
pub(crate) fn describe(dir: &Path) -> String {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = memory_gib().map_or("an unknown amount".to_owned(), |gib| format!("{gib} GiB"));
    format!(
        "{threads} hardware threads, {memory} of memory, {}, {}",
        disk(dir).unwrap_or("an unknown disk"),
        file_system(dir).unwrap_or("an unknown file system")
    )
}

fn memory_gib() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.split_ascii_whitespace().next()?.parse().ok()?;
    // The kernel keeps some for itself.
    Some(kib.div_ceil(1 << 20))
}

fn disk(dir: &Path) -> Option<&'static str> {
    let device = fs::metadata(dir).ok()?.dev();
    let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let path = fs::canonicalize(link).ok()?;
    let name = path.to_string_lossy().into_owned();
    Some(if name.contains("/virtio") || name.contains("/vd") {
        "virtual disk"
    } else if name.contains("/nvme") {
        "NVMe disk"
    } else {
        "other disk"
    })
}

fn file_system(dir: &Path) -> Option<&'static str> {
    let magic = statfs(dir).ok()?.f_type;
    FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}
