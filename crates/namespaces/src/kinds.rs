//! The eight kinds of namespaces and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};
use std::str::FromStr;

use crate::{Error, Result};

/// One kind of namespace, named as in `/proc/PID/ns`.
///
/// See [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User and group ids, capabilities.
    #[doc(alias = "CLONE_NEWUSER")]
    User,
    /// Mounts.
    #[doc(alias = "CLONE_NEWNS")]
    Mnt,
    /// Process ids. A process never changes its own: only its children are born elsewhere.
    #[doc(alias = "CLONE_NEWPID")]
    Pid,
    /// Network devices, addresses, routes, sockets.
    #[doc(alias = "CLONE_NEWNET")]
    Net,
    /// System V IPC objects and POSIX message queues.
    #[doc(alias = "CLONE_NEWIPC")]
    Ipc,
    /// Host and domain name.
    #[doc(alias = "CLONE_NEWUTS")]
    Uts,
    /// The root of `/proc/PID/cgroup`.
    #[doc(alias = "CLONE_NEWCGROUP")]
    Cgroup,
    /// Offsets of the monotonic and boot-time clocks. `unshare` moves only the children of the caller.
    #[doc(alias = "CLONE_NEWTIME")]
    Time,
}

impl Kind {
    /// All kinds, the user namespace first: whoever joins several has its capabilities in the others only then.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Mnt, Self::Pid, Self::Net, Self::Ipc, Self::Uts, Self::Cgroup, Self::Time];

    /// Returns the name of the file in `/proc/PID/ns`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mnt => "mnt",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Returns the name of the file in `/proc/PID/ns` for the namespace that new children are put into, for the
    /// two kinds where it may differ from the process's own: `pid_for_children` and `time_for_children`.
    pub const fn for_children_name(self) -> Option<&'static str> {
        match self {
            Self::Pid => Some("pid_for_children"),
            Self::Time => Some("time_for_children"),
            _ => None,
        }
    }

    /// Returns the `CLONE_NEW*` flag.
    pub const fn clone_flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mnt => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            // The libc crate does not have it for every target.
            Self::Time => 0x80,
        }
    }

    /// Returns the kind with this `CLONE_NEW*` flag, which is what the ioctl `NS_GET_NSTYPE` answers.
    pub fn from_clone_flag(flag: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.clone_flag() == flag)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// Parses a name of `/proc/PID/ns`.
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| Error::UnknownKind { name: name.to_owned() })
    }
}

/// A set of [`Kind`]s.
///
/// ```
/// use podrun_namespaces::{Kind, Kinds};
///
/// let kinds = Kind::Net | Kind::Ipc | Kind::Uts;
/// assert!(kinds.contains(Kind::Net));
/// assert_eq!(kinds.to_string(), "net,ipc,uts");
/// assert_eq!("uts,net,ipc".parse::<Kinds>()?, kinds);
/// # Ok::<(), podrun_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Kinds {
    flags: i32,
}

impl Kinds {
    /// No kind.
    pub const EMPTY: Self = Self { flags: 0 };
    /// Only [`Kind::User`].
    pub const USER: Self = Self::only(Kind::User);
    /// Only [`Kind::Mnt`].
    pub const MNT: Self = Self::only(Kind::Mnt);
    /// Only [`Kind::Pid`].
    pub const PID: Self = Self::only(Kind::Pid);
    /// Only [`Kind::Net`].
    pub const NET: Self = Self::only(Kind::Net);
    /// Only [`Kind::Ipc`].
    pub const IPC: Self = Self::only(Kind::Ipc);
    /// Only [`Kind::Uts`].
    pub const UTS: Self = Self::only(Kind::Uts);
    /// Only [`Kind::Cgroup`].
    pub const CGROUP: Self = Self::only(Kind::Cgroup);
    /// Only [`Kind::Time`].
    pub const TIME: Self = Self::only(Kind::Time);
    /// All eight kinds.
    pub const ALL: Self = Self::USER
        .with(Kind::Mnt)
        .with(Kind::Pid)
        .with(Kind::Net)
        .with(Kind::Ipc)
        .with(Kind::Uts)
        .with(Kind::Cgroup)
        .with(Kind::Time);

    /// Returns the set of one kind.
    pub const fn only(kind: Kind) -> Self {
        Self { flags: kind.clone_flag() }
    }

    /// Returns this set and `kind`.
    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self { flags: self.flags | kind.clone_flag() }
    }

    /// Returns this set without `kind`.
    #[must_use]
    pub const fn without(self, kind: Kind) -> Self {
        Self { flags: self.flags & !kind.clone_flag() }
    }

    /// Returns whether `kind` is in the set.
    pub const fn contains(self, kind: Kind) -> bool {
        self.flags & kind.clone_flag() != 0
    }

    /// Returns whether every kind of `other` is in the set.
    pub const fn contains_all(self, other: Self) -> bool {
        self.flags & other.flags == other.flags
    }

    /// Returns whether there is no kind in the set.
    pub const fn is_empty(self) -> bool {
        self.flags == 0
    }

    /// Returns how many kinds are in the set.
    pub const fn len(self) -> usize {
        self.flags.count_ones() as usize
    }

    /// Returns the `CLONE_NEW*` flags, for clone3, unshare and setns.
    pub const fn clone_flags(self) -> i32 {
        self.flags
    }

    /// Returns the kinds in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Self {
        Self::only(kind)
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl<K: Into<Kinds>> BitOr<K> for Kinds {
    type Output = Self;

    fn bitor(self, other: K) -> Self {
        Self { flags: self.flags | other.into().flags }
    }
}

impl<K: Into<Kinds>> BitOr<K> for Kind {
    type Output = Kinds;

    fn bitor(self, other: K) -> Kinds {
        Kinds::only(self) | other
    }
}

impl<K: Into<Kinds>> BitOrAssign<K> for Kinds {
    fn bitor_assign(&mut self, other: K) {
        *self = *self | other;
    }
}

impl<K: Into<Kinds>> BitAnd<K> for Kinds {
    type Output = Self;

    fn bitand(self, other: K) -> Self {
        Self { flags: self.flags & other.into().flags }
    }
}

impl<K: Into<Kinds>> Sub<K> for Kinds {
    type Output = Self;

    fn sub(self, other: K) -> Self {
        Self { flags: self.flags & !other.into().flags }
    }
}

impl fmt::Display for Kinds {
    /// Writes the names with commas between them, `none` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("none");
        }
        let names: Vec<&str> = self.iter().map(Kind::name).collect();
        f.pad(&names.join(","))
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kinds({self})")
    }
}

impl FromStr for Kinds {
    type Err = Error;

    /// Parses names with commas between them; `none` and the empty text are the empty set.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() || text == "none" {
            return Ok(Self::EMPTY);
        }
        text.split(',').map(Kind::from_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_survives_a_round_trip_through_its_name_and_flag() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            assert_eq!(Kind::from_clone_flag(kind.clone_flag()), Some(kind));
        }
        assert_eq!(Kind::from_clone_flag(0), None);
        assert_eq!(Kind::from_clone_flag(libc::CLONE_NEWNET | libc::CLONE_NEWIPC), None);
    }

    #[test]
    fn flags_are_those_of_the_kernel() {
        // include/uapi/linux/sched.h
        let flags = Kind::ALL.map(Kind::clone_flag);
        let kernel = [
            0x1000_0000,
            0x0002_0000,
            0x2000_0000,
            0x4000_0000,
            0x0800_0000,
            0x0400_0000,
            0x0200_0000,
            0x0000_0080,
        ];
        assert_eq!(flags, kernel);
        assert_eq!(Kinds::ALL.clone_flags(), kernel.iter().sum::<i32>());
    }

    #[test]
    fn only_pid_and_time_have_a_namespace_for_children() {
        let special: Vec<_> = Kind::ALL.into_iter().filter_map(Kind::for_children_name).collect();
        assert_eq!(special, ["pid_for_children", "time_for_children"]);
    }

    #[test]
    fn names_that_are_not_in_proc_are_refused_by_name() {
        for name in ["", "mount", "NET", "network", "pid_for_children", " net"] {
            let error = name.parse::<Kind>().unwrap_err();
            assert!(matches!(&error, Error::UnknownKind { name: n } if n == name), "{error}");
        }
    }

    #[test]
    fn sets_combine_like_sets() {
        let set = Kind::Net | Kind::Ipc | Kinds::UTS;
        assert_eq!(set.len(), 3);
        assert_eq!(set - Kind::Ipc, Kind::Net | Kind::Uts);
        assert_eq!(set & (Kind::Ipc | Kind::Pid), Kinds::IPC);
        assert!(set.contains_all(Kind::Net | Kind::Uts));
        assert!(!set.contains_all(Kind::Net | Kind::User));
        assert_eq!(set.without(Kind::Net).without(Kind::Net), Kind::Ipc | Kind::Uts);
        assert_eq!(set.iter().collect::<Kinds>(), set);
        assert_eq!(Kinds::ALL.iter().collect::<Vec<_>>(), Kind::ALL);
        let mut grown = Kinds::EMPTY;
        assert!(grown.is_empty());
        grown |= Kind::Time;
        assert_eq!(grown, Kinds::TIME);
    }

    #[test]
    fn sets_print_and_parse_as_names_with_commas() {
        let table = [
            (Kinds::EMPTY, "none"),
            (Kinds::NET, "net"),
            (Kind::Time | Kind::User, "user,time"),
            (Kinds::ALL, "user,mnt,pid,net,ipc,uts,cgroup,time"),
        ];
        for (set, text) in table {
            assert_eq!(set.to_string(), text);
            assert_eq!(text.parse::<Kinds>().unwrap(), set);
        }
        assert_eq!("".parse::<Kinds>().unwrap(), Kinds::EMPTY);
        assert!("net,".parse::<Kinds>().is_err());
        assert_eq!(format!("{:?}", Kinds::NET), "Kinds(net)");
    }
}
