//! The files that a killed process left: copying them, and what the page cache has of them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Advice;
use seawall::DiskKind;
use seawall_wal::disk::{Access, OpenMode, select};

use crate::ensure;
use crate::failure::{Failure, Outcome};

/// Where root tells the kernel to drop its caches, and what drops all of them.
const DROP_CACHES: (&str, &str) = ("/proc/sys/vm/drop_caches", "3");

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("{}: {error}", path.display()))
}

/// Copies a directory, sharing blocks where the file system can.
pub(super) fn copy(from: &Path, to: &Path) -> Outcome {
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto"]).arg(from).arg(to);
    let status = command.status().map_err(|error| Failure::new(format!("cp: {error}")))?;
    ensure!(status.success(), "cp of {} failed: {status}", from.display());
    Ok(())
}

/// All files in a directory and those below it.
fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Syncs every file, and takes what it has in the page cache from there; with `of_everything`, what
/// all files of the machine have.
pub(super) fn drop_cache(dir: &Path, of_everything: bool) -> Outcome {
    for path in files(dir)? {
        let file = File::open(&path).map_err(failed(&path))?;
        file.sync_all().map_err(failed(&path))?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)
            .map_err(|error| failed(&path)(error.into()))?;
    }
    if of_everything {
        let (path, all) = DROP_CACHES;
        std::fs::write(path, all).map_err(failed(Path::new(path)))?;
    }
    Ok(())
}

/// Reads every file to its end, and so into the page cache.
pub(super) fn read_all(dir: &Path) -> Outcome {
    for path in files(dir)? {
        let mut file = File::open(&path).map_err(failed(&path))?;
        io::copy(&mut file, &mut io::sink()).map_err(failed(&path))?;
    }
    Ok(())
}

/// Whether the engine reads the database's files past the page cache.
pub(super) fn is_read_past_the_cache(dir: &Path, kind: DiskKind) -> Outcome<bool> {
    let path = dir.join("pages");
    let file = select(kind).and_then(|disk| disk.open(&path, OpenMode::ReadOnly, Access::Direct));
    Ok(file.map_err(failed(&path))?.is_direct())
}

#[cfg(test)]
mod tests {
    use super::{copy, drop_cache, files, read_all};

    #[test]
    fn a_copy_has_all_files_and_survives_the_loss_of_its_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("wal")).unwrap();
        std::fs::write(from.join("pages"), [7; 10_000]).unwrap();
        std::fs::write(from.join("wal/1"), [8; 10_000]).unwrap();
        copy(&from, &to).unwrap();
        drop_cache(&to, false).unwrap();
        read_all(&to).unwrap();
        assert_eq!(files(&to).unwrap().len(), 2);
        assert_eq!(std::fs::read(to.join("wal/1")).unwrap(), [8; 10_000]);
        assert!(copy(&dir.path().join("missing"), &to).is_err());
    }
}
