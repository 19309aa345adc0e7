//! Links: network interfaces.

mod bridge;
mod change;
mod new;
mod operations;
mod read;
mod statistics;

use std::fmt;

pub use bridge::{BridgeOptions, PortOptions};
pub use change::LinkChange;
pub use new::{LinkKind, NewLink, Peer};
pub use operations::LinkFilter;
pub(crate) use operations::existed;
pub use read::{Link, OperState};
pub use statistics::LinkStatistics;

use crate::error::{Error, Result};
use crate::wire::Body;

/// Which link a request is about.
///
/// An index is never reused while a network namespace lives, except after some two thousand million links; a name may be,
/// at once. Requests by name cost the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkId<'a> {
    /// By index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

impl From<u32> for LinkId<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for LinkId<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for LinkId<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for LinkId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

impl LinkId<'_> {
    /// Returns the index for the fixed structure; a name stands for index 0 and goes into an attribute.
    pub(crate) fn index(self) -> Result<u32> {
        match self {
            Self::Index(index) => Ok(index),
            Self::Name(name) => check_name(name).map(|()| 0),
        }
    }

    pub(crate) fn put_name(self, body: &mut Body) {
        if let Self::Name(name) = self {
            body.text(libc::IFLA_IFNAME, name);
        }
    }
}

/// Checks that a text may be the name of a link: 1 to 15 bytes, no `/`, `:` or white space, neither `.` nor `..`.
///
/// The kernel checks it too (`dev_valid_name` in `net/core/dev.c`), but reads a name with a `%` as a pattern; those are
/// refused here.
///
/// # Errors
///
/// [`Error::InvalidName`] with the rule that is broken.
pub fn check_name(name: &str) -> Result<()> {
    let reason = match name {
        "" => "is empty",
        "." | ".." => "means a directory",
        _ if name.len() >= libc::IFNAMSIZ => "is longer than 15 bytes",
        _ if name.contains(['/', ':', '%', '\0']) => "has a '/', ':', '%' or NUL",
        // The kernel's isspace() also takes Latin-1's no-break space, one byte of many UTF-8 letters.
        _ if name.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0x0b || byte == 0xa0) => {
            "has white space"
        }
        _ => return Ok(()),
    };
    Err(Error::InvalidName { name: name.to_owned(), reason })
}

/// `struct ifinfomsg`
pub(crate) fn ifinfomsg(family: i32, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = crate::route::family_byte(family);
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// `IFF_UP`
pub(crate) const UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_the_kernel_does() {
        for name in ["a", "veth0", "fifteen-bytes-x", "eth0.5", "...", "é"] {
            check_name(name).unwrap();
        }
        for name in
            ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\tb", "a\u{b}b", "eth%d", "a\0", "à"]
        {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
