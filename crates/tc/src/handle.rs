//! Names of queueing disciplines and classes.

use std::fmt;

/// The name of a queueing discipline (`1:`) or of a class (`1:10`), both numbers in hexadecimal, or one of the places that
/// every link has. See tc(8).
///
/// ```
/// use podrun_tc::Handle;
/// assert_eq!(Handle::new(1, 0x10).to_string(), "1:10");
/// assert_eq!(Handle::qdisc(0x8001).to_string(), "8001:");
/// assert_eq!(Handle::ROOT.to_string(), "root");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Handle(u32);

impl Handle {
    /// Nothing in particular: a filter for the whole, or a handle that the kernel shall choose.
    pub const NONE: Self = Self(0);
    /// Where a link's root discipline is: what it sends.
    #[doc(alias = "TC_H_ROOT")]
    pub const ROOT: Self = Self(0xffff_ffff);
    /// Where `ingress` and `clsact` are. There can be one of the two.
    #[doc(alias = "TC_H_INGRESS")]
    #[doc(alias = "TC_H_CLSACT")]
    pub const INGRESS: Self = Self(0xffff_fff1);
    /// Where the filters of `ingress` are.
    pub const INGRESS_FILTERS: Self = Self(0xffff_0000);
    /// Where the filters of `clsact` for what a link receives are.
    #[doc(alias = "TC_H_MIN_INGRESS")]
    pub const CLSACT_INGRESS: Self = Self(0xffff_fff2);
    /// Where the filters of `clsact` for what a link sends are.
    #[doc(alias = "TC_H_MIN_EGRESS")]
    pub const CLSACT_EGRESS: Self = Self(0xffff_fff3);

    /// Returns the name of a class.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }

    /// Returns the name of a queueing discipline.
    pub const fn qdisc(major: u16) -> Self {
        Self::new(major, 0)
    }

    /// Returns the name with this number.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Returns the number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Returns the number of the queueing discipline.
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Returns the number of the class, 0 for the queueing discipline itself.
    pub const fn minor(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.pad("none"),
            Self::ROOT => f.pad("root"),
            Self::INGRESS => f.pad("ingress"),
            Self::CLSACT_INGRESS => f.pad("clsact ingress"),
            Self::CLSACT_EGRESS => f.pad("clsact egress"),
            _ if self.minor() == 0 => write!(f, "{:x}:", self.major()),
            _ => write!(f, "{:x}:{:x}", self.major(), self.minor()),
        }
    }
}
