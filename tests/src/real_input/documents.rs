//! The files below a folder.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// What the key of a file begins with.
const PREFIX: &[u8] = b"document/";

/// A file below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `document/PATH`, the path relative to the folder.
    pub key: Vec<u8>,
    /// Where it is.
    pub path: PathBuf,
}

/// All regular files below `folder`, in no order. Links are not followed: what they lead to is either
/// there under its own name, or outside.
///
/// # Errors
/// A folder that cannot be read.
pub fn documents(folder: &Path) -> Outcome<Vec<Document>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        let failed = |error| Failure::new(format!("cannot read {}: {error}", inner.display()));
        for entry in fs::read_dir(&inner).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let relative = path.strip_prefix(folder);
                let relative = relative.expect("the walk began in the folder").as_os_str();
                let key = [PREFIX, relative.as_bytes()].concat();
                found.push(Document { key, path });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::documents;

    #[test]
    fn files_at_every_depth_are_found_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("top.html"), "t").unwrap();
        fs::write(dir.path().join("a/b/deep.html"), "d").unwrap();
        symlink(dir.path(), dir.path().join("a/round")).unwrap();
        symlink(dir.path().join("top.html"), dir.path().join("a/link.html")).unwrap();
        let mut keys: Vec<_> =
            documents(dir.path()).unwrap().into_iter().map(|document| document.key).collect();
        keys.sort();
        assert_eq!(keys, [&b"document/a/b/deep.html"[..], b"document/top.html"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let why = documents(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(why.starts_with("cannot read ") && why.contains("nowhere"), "{why}");
    }
}
