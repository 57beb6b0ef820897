//! A bound of the memory that this process may have, page cache included: a control group of its own, which takes
//! root and a kernel that has the controller.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Both hierarchies: where groups are made, and the file that takes the bound.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// The name of the group of the process with this id.
fn name(pid: u32) -> String {
    format!("seawall-compare-{pid}")
}

/// Moves this process into a group of its own that may have `bytes` of memory.
pub(crate) fn confine(bytes: u64) -> Result<()> {
    let mut result = Err(anyhow::anyhow!("no hierarchy of control groups is mounted"));
    for (root, limit) in HIERARCHIES {
        let group = Path::new(root).join(name(std::process::id()));
        result = try_group(&group, limit, bytes);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn try_group(group: &Path, limit: &str, bytes: u64) -> Result<()> {
    fs::create_dir(group).with_context(|| format!("creating {}", group.display()))?;
    let entered = fs::write(group.join(limit), bytes.to_string())
        .and_then(|()| fs::write(group.join("cgroup.procs"), "0"));
    if let Err(error) = entered {
        fs::remove_dir(group)?;
        return Err(error).with_context(|| format!("a bound for {}", group.display()));
    }
    Ok(())
}

/// Removes the group of a process that has ended, if it had one.
pub(crate) fn remove_group(pid: u32) {
    for (root, _) in HIERARCHIES {
        let group: PathBuf = Path::new(root).join(name(pid));
        if group.exists()
            && let Err(error) = fs::remove_dir(&group)
        {
            eprintln!("{} stays: {error}", group.display());
        }
    }
}
