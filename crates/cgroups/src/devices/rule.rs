//! Rules about devices.

use std::fmt;

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Either kind.
    Any,
    /// A block device.
    Block,
    /// A character device.
    Char,
}

/// What is done with a device: a set of reading, writing and making a node for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceAccess(pub(super) u8);

// The bits are BPF_DEVCG_ACC_MKNOD, _READ and _WRITE of linux/bpf.h.
impl DeviceAccess {
    /// Making a node with mknod(2).
    pub const MKNOD: Self = Self(1);
    /// Reading.
    pub const READ: Self = Self(2);
    /// Writing.
    pub const WRITE: Self = Self(4);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// Returns what is in at least one of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `rwm`, as in the device rules of OCI.
impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")]
            .into_iter()
            .filter(|(access, _)| self.contains(*access))
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// Allows or denies access to some devices.
///
/// Of several rules about a device and an access, the last one counts, as in the OCI runtime specification. What no rule
/// is about is denied. An access of several kinds at once, such as opening for reading and writing, is allowed if each
/// of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceRule {
    /// Which kind of devices.
    pub kind: DeviceKind,
    /// Which major number; nothing for every one.
    pub major: Option<u32>,
    /// Which minor number; nothing for every one.
    pub minor: Option<u32>,
    /// What may, or may not, be done.
    pub access: DeviceAccess,
    /// Whether it may.
    pub allow: bool,
}

impl DeviceRule {
    /// Returns a rule that allows everything with one character device.
    pub const fn allow_char(major: u32, minor: Option<u32>) -> Self {
        Self { kind: DeviceKind::Char, major: Some(major), minor, access: DeviceAccess::ALL, allow: true }
    }
}

/// `allow c 1:3 rwm`, with `*` for every number.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "allow" } else { "deny" };
        let kind = match self.kind {
            DeviceKind::Any => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{verb} {kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// The devices that runtimes give to every container: null, zero, full, random, urandom, tty, ptmx and the pseudo
/// terminals. Nodes of other devices cannot even be made; see [`MKNOD_ANYTHING`].
pub const CONTAINER_DEVICES: [DeviceRule; 8] = [
    DeviceRule::allow_char(1, Some(3)),
    DeviceRule::allow_char(1, Some(5)),
    DeviceRule::allow_char(1, Some(7)),
    DeviceRule::allow_char(1, Some(8)),
    DeviceRule::allow_char(1, Some(9)),
    DeviceRule::allow_char(5, Some(0)),
    DeviceRule::allow_char(5, Some(2)),
    DeviceRule::allow_char(136, None),
];

/// Allows nodes of every device to be made, though not to be used, as runc and containerd do by default. Unpacking
/// archives with device nodes needs it, beside `CAP_MKNOD`.
pub const MKNOD_ANYTHING: DeviceRule =
    DeviceRule { kind: DeviceKind::Any, major: None, minor: None, access: DeviceAccess::MKNOD, allow: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_print_as_oci_writes_them() {
        assert_eq!(CONTAINER_DEVICES[0].to_string(), "allow c 1:3 rwm");
        assert_eq!(CONTAINER_DEVICES[7].to_string(), "allow c 136:* rwm");
        assert_eq!(MKNOD_ANYTHING.to_string(), "allow a *:* m");
        let read_write = DeviceAccess::READ.union(DeviceAccess::WRITE);
        let rule = DeviceRule {
            kind: DeviceKind::Block,
            major: Some(8),
            minor: Some(0),
            access: read_write,
            allow: false,
        };
        assert_eq!(rule.to_string(), "deny b 8:0 rw");
    }
}
