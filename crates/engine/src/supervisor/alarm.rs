//! The clock that wakes the supervisor's loop.
//!
//! The runtime's own timers are kept on a wheel: for one that is a second away it is woken two or three times, and there
//! is a loop for each Pod. A timer of the kernel's wakes it once, and its clock goes on while the machine is suspended.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::async_fd::readable;
use crate::error::{Error, Result};

/// Wakes one task at one time since boot.
pub(super) struct Alarm {
    timer: TimerFd,
    rings: AsyncFd<OwnedFd>,
    set: Option<Duration>,
}

impl Alarm {
    /// Returns an alarm that is not set.
    ///
    /// # Errors
    ///
    /// [`Error::Alarm`]: `EMFILE` if there are too many open files.
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)
            .map_err(|errno| Error::Alarm { source: errno.into() })?;
        let rings = readable(timer.as_fd()).map_err(|source| Error::Alarm { source })?;
        Ok(Self { timer, rings, set: None })
    }

    /// Waits for a time since boot. May be dropped and called again, for the same time or another.
    ///
    /// # Errors
    ///
    /// [`Error::Alarm`], which the kernel has no reason for.
    pub(super) async fn wait_until(&mut self, at: Duration) -> Result<()> {
        let failed = |source| Error::Alarm { source };
        if self.set != Some(at) {
            // Zero would turn it off.
            let time = Expiration::OneShot(TimeSpec::from(at.max(Duration::from_nanos(1))));
            let set = self.timer.set(time, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
            set.map_err(|errno| failed(errno.into()))?;
            self.set = Some(at);
        }
        // An earlier time that was not waited for to the end may wake once too often.
        self.rings.readable().await.map_err(failed)?.clear_ready();
        self.set = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::clock;

    #[test]
    fn it_rings_at_its_time_and_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut alarm = Alarm::new().expect("a timer");
            let far = clock::boot() + Duration::from_secs(3600);
            let forgotten = timeout(Duration::from_millis(5), alarm.wait_until(far)).await;
            assert!(forgotten.is_err(), "it is not yet time");
            for after in [5, 0, 5].map(Duration::from_millis) {
                let at = clock::boot() + after;
                let rung = timeout(Duration::from_secs(60), alarm.wait_until(at)).await;
                rung.expect("it rings").expect("the timer is set");
                assert!(clock::boot() >= at, "not before its time");
            }
        });
    }
}
