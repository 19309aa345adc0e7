//! The clocks, read in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use podrun_lifecycle::Now;
use podrun_spec::time::Timestamp;

/// Returns the time on both clocks.
pub(crate) fn now() -> Now {
    Now { wall: wall(), boot: boot() }
}

/// Returns the wall-clock time.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

/// Returns the time since boot, suspended time included.
pub(crate) fn boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
