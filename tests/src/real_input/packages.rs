//! The package index of a Linux distribution, as `apt-cache dumpavail` prints it: stanzas of fields,
//! with an empty line between them (Debian's control file format).

use std::ops::Range;

use crate::failure::{Failure, Outcome};

/// What the key of a package begins with.
const PREFIX: &[u8] = b"package/";

/// A package: a stanza of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `package/NAME/VERSION/ARCHITECTURE`.
    pub key: Vec<u8>,
    /// Where its stanza is, without the empty line behind it.
    pub stanza: Range<usize>,
}

/// All packages of an index, in its order.
///
/// # Errors
/// A stanza without name, version or architecture.
pub fn packages(index: &[u8]) -> Outcome<Vec<Package>> {
    stanzas(index)
        .map(|stanza| {
            let text = &index[stanza.clone()];
            let key = key(text).map_err(|why| why.at(format!("the stanza at {}", stanza.start)))?;
            Ok(Package { key, stanza })
        })
        .collect()
}

/// Where stanzas are.
fn stanzas(index: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        while index.get(rest) == Some(&b'\n') {
            rest += 1;
        }
        let start = rest;
        let ending = index[start..].windows(2).position(|pair| pair == b"\n\n");
        rest = ending.map_or(index.len(), |length| start + length + 1);
        (start < rest).then_some(start..rest)
    })
}

fn key(stanza: &[u8]) -> Outcome<Vec<u8>> {
    let (name, version) = (field(stanza, "Package")?, field(stanza, "Version")?);
    Ok([PREFIX, name, b"/", version, b"/", field(stanza, "Architecture")?].concat())
}

/// The value of a field that fits on its line.
fn field<'a>(stanza: &'a [u8], name: &str) -> Outcome<&'a [u8]> {
    stanza
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))
        .map(<[u8]>::trim_ascii)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Failure::new(format!("there is no {name}")))
}

#[cfg(test)]
mod tests {
    use super::packages;

    const INDEX: &[u8] = b"\nPackage: zsh\nVersion: 5.9-4\nArchitecture: amd64\n\
        Description: shell\n with a\n .\n second line\n\n\n\
        Package: a2ps\nArchitecture: all\nVersion: 1:4.14-8\n";

    #[test]
    fn every_stanza_is_a_package_named_by_its_fields() {
        let found = packages(INDEX).unwrap();
        let keys: Vec<_> = found.iter().map(|package| &package.key[..]).collect();
        assert_eq!(keys, [&b"package/zsh/5.9-4/amd64"[..], b"package/a2ps/1:4.14-8/all"]);
        assert!(INDEX[found[0].stanza.clone()].starts_with(b"Package: zsh\n"));
        assert!(INDEX[found[0].stanza.clone()].ends_with(b"\n second line\n"));
        assert!(INDEX[found[1].stanza.clone()].ends_with(b"4.14-8\n"));
    }

    #[test]
    fn an_index_without_stanzas_has_no_packages() {
        assert_eq!(packages(b"").unwrap(), []);
        assert_eq!(packages(b"\n\n").unwrap(), []);
    }

    #[test]
    fn a_stanza_without_a_version_is_named() {
        let index = b"Package: a\nArchitecture: all\nVersion: 1\n\nPackage: b\nVersion: \n";
        let why = packages(index).unwrap_err().to_string();
        assert_eq!(why, "the stanza at 41: there is no Version");
    }
}
