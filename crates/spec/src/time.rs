//! Points in time as the Pod API writes them: RFC 3339, seconds in status, nanoseconds in logs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Wall-clock time since the Unix epoch, in nanoseconds.
///
/// A timestamp is a record of what happened. Waiting is done on a monotonic clock, never on this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the timestamp `seconds` after the Unix epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// Returns whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Returns the time in the form of a status field: `2026-11-23T16:15:00Z`.
    pub fn to_rfc3339_seconds(self) -> String {
        jiff::Timestamp::from_second(self.unix_seconds()).map_or_else(|_| String::new(), |t| t.to_string())
    }

    /// Returns the jiff value, for formats that this crate does not know.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339_seconds())
    }
}
