//! Paths of archive entries, made relative and checked before any system call sees them.

use crate::error::{Error, Refusal, Result, lossy};
use crate::limits;
use crate::protection::Protection;

/// The marker of a removed file in a layer: `.wh.NAME` removes `NAME` of the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// The marker of a directory that hides what the layers below have at its place.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that aufs used for its own ends.
const AUFS_META: &[u8] = b".wh..wh.";

/// What an entry's path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'p> {
    /// The layer's root.
    Root,
    /// The object `name` in the directory `parent`; an empty parent is the root.
    Object { parent: &'p [u8], name: &'p [u8] },
    /// Removes `name` in `parent` from the layers below.
    Whiteout { parent: &'p [u8], name: &'p [u8] },
    /// Hides what the layers below have in this directory.
    Opaque { dir: &'p [u8] },
    /// aufs's own bookkeeping, which means nothing here.
    Ignored,
}

/// Makes `raw` relative to the layer's root: no empty or `.` components, no slash at either end.
///
/// A leading slash is dropped, as every reader does. A `..` is refused wherever it stands: writers of layers do not
/// need it, and a reader that follows links and one that does not would see different files.
pub(crate) fn clean(raw: &[u8]) -> Result<Vec<u8>> {
    let limit = |unit, max| Error::Limit { subject: lossy(raw), unit, max };
    let refused = |source| Error::Refused { entry: lossy(raw), source };
    if raw.len() as u64 > limits::MAX_PATH_BYTES && Protection::PathBytes.is_on() {
        return Err(limit("bytes of path", limits::MAX_PATH_BYTES));
    }
    if raw.contains(&0) && Protection::Nul.is_on() {
        return Err(refused(Refusal::Nul));
    }
    let mut path = Vec::with_capacity(raw.len());
    let mut depth = 0;
    for component in raw.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." if Protection::ParentComponent.is_on() => return Err(refused(Refusal::ParentComponent)),
            _ => {}
        }
        depth += 1;
        if component.len() as u64 > limits::MAX_NAME_BYTES && Protection::NameBytes.is_on() {
            return Err(limit("bytes of name", limits::MAX_NAME_BYTES));
        }
        if depth > limits::MAX_DEPTH && Protection::Depth.is_on() {
            return Err(limit("directories in each other", limits::MAX_DEPTH));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    Ok(path)
}

/// Splits a clean path at its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Tells whiteouts from objects.
pub(crate) fn classify(path: &[u8]) -> Result<Target<'_>, Refusal> {
    if path.is_empty() {
        return Ok(Target::Root);
    }
    let (parent, name) = split(path);
    let mut parents = parent.split(|&byte| byte == b'/');
    if name != OPAQUE && (name.starts_with(AUFS_META) || parents.any(|dir| dir.starts_with(AUFS_META))) {
        return Ok(Target::Ignored);
    }
    if parent.split(|&byte| byte == b'/').any(|dir| dir.starts_with(WHITEOUT)) {
        return Err(Refusal::Whiteout);
    }
    if name == OPAQUE {
        return Ok(Target::Opaque { dir: parent });
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Target::Object { parent, name }),
        Some(b"" | b"." | b"..") if Protection::WhiteoutName.is_on() => Err(Refusal::Whiteout),
        Some(name) => Ok(Target::Whiteout { parent, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative() {
        for (raw, path) in [
            ("a/b", "a/b"),
            ("./a//b/./", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("//a", "a"),
            ("./", ""),
            ("/", ""),
            ("", ""),
            ("a/..b/...", "a/..b/..."),
        ] {
            assert_eq!(clean(raw.as_bytes()).expect(raw), path.as_bytes(), "{raw}");
        }
        for raw in ["..", "../a", "a/..", "a/../b", "/../a", "a/b/../../..", "a\0b"] {
            assert!(matches!(clean(raw.as_bytes()), Err(Error::Refused { .. })), "{raw}");
        }
    }

    #[test]
    fn lengths_and_depth_are_bounded() {
        for (raw, unit) in [
            ("a".repeat(256), "bytes of name"),
            ("a/".repeat(2048), "bytes of path"),
            ("a/".repeat(257), "directories in each other"),
        ] {
            match clean(raw.as_bytes()) {
                Err(Error::Limit { unit: found, .. }) => assert_eq!(found, unit),
                other => panic!("{unit}: {other:?}"),
            }
        }
        assert!(clean("a".repeat(255).as_bytes()).is_ok());
        assert!(clean("a/".repeat(256).as_bytes()).is_ok());
    }

    #[test]
    fn whiteouts_are_told_from_objects() {
        let object = |parent, name| Ok(Target::Object { parent, name });
        let whiteout = |parent, name| Ok(Target::Whiteout { parent, name });
        for (path, target) in [
            (&b""[..], Ok(Target::Root)),
            (b"a", object(b"", b"a")),
            (b"a/b/c", object(b"a/b", b"c")),
            (b"a/.wh.b", whiteout(b"a", b"b")),
            (b".wh...a", whiteout(b"", b"..a")),
            (b".wh..wh..opq", Ok(Target::Opaque { dir: b"" })),
            (b"a/.wh..wh..opq", Ok(Target::Opaque { dir: b"a" })),
            (b".wh..wh.plnk/1.2", Ok(Target::Ignored)),
            (b"a/.wh..wh.aufs", Ok(Target::Ignored)),
            (b".wh.", Err(Refusal::Whiteout)),
            (b"a/.wh..", Err(Refusal::Whiteout)),
            (b"a/.wh...", Err(Refusal::Whiteout)),
            (b".wh.a/b", Err(Refusal::Whiteout)),
            (b".wh.a/.wh..wh..opq", Err(Refusal::Whiteout)),
        ] {
            assert_eq!(classify(path), target, "{}", String::from_utf8_lossy(path));
        }
    }
}
