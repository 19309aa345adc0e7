//! What is not as it should be.

use std::fmt;

/// Something in the kernel that is not as it should be. Printed as `THING: WANTED expected, found FOUND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which field of which object: `link "pr…", mtu`.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

impl Difference {
    pub(crate) fn of(what: impl Into<String>, wanted: &impl fmt::Debug, found: &impl fmt::Debug) -> Self {
        Self { what: what.into(), wanted: format!("{wanted:?}"), found: format!("{found:?}") }
    }

    pub(crate) fn text(what: impl Into<String>, wanted: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { what: what.into(), wanted: wanted.to_string(), found: found.to_string() }
    }

    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::text(what, "there", "nothing")
    }

    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::text(what, "nothing", "something")
    }
}

impl From<podrun_tc::Difference> for Difference {
    fn from(found: podrun_tc::Difference) -> Self {
        Self { what: format!("{}: {}", found.place, found.field), wanted: found.wanted, found: found.found }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} expected, found {}", self.what, self.wanted, self.found)
    }
}
