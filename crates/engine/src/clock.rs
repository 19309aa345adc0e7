//! The clocks, read in one place.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use podrun_lifecycle::Now;
use podrun_spec::time::Timestamp;

use crate::error::{Error, Result};

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

/// Returns what tells this boot of the machine from all others.
///
/// # Errors
///
/// [`Error::Io`]: `ENOENT` if `/proc` is not mounted.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|id| id.trim().to_owned()).map_err(|source| Error::io("read", path, source))
}
