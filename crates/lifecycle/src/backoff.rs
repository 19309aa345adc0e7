//! The growing waits before a container is started again and before an image is pulled again.
//!
//! Both follow client-go's `flowcontrol.Backoff`: the wait doubles from 10 s to 300 s, and an entry that was
//! not used for twice the longest wait starts over. The kubelet wakes up at random between 1.0 and 1.5 times the
//! wait; here it is the wait itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first wait.
const INITIAL: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// An entry that is older starts over.
const IDLE: Duration = Duration::from_secs(600);

/// How long to wait after the next failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backoff {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    delay: Duration,
    updated: Duration,
}

impl Entry {
    fn is_idle(&self, event: Duration) -> bool {
        event.saturating_sub(self.updated) > IDLE
    }
}

impl Backoff {
    /// Returns when the wait that began with `event` is over; none where there is nothing to wait for.
    pub(crate) fn until(&self, event: Duration, now: Duration) -> Option<Duration> {
        let entry = self.entry.filter(|e| !e.is_idle(event))?;
        let end = event + entry.delay;
        (end > now).then_some(end)
    }

    /// Returns when the wait that began with the last failure is over.
    pub(crate) fn until_since_update(&self, now: Duration) -> Option<Duration> {
        let entry = self.entry.filter(|e| !e.is_idle(now))?;
        let end = entry.updated + entry.delay;
        (end > now).then_some(end)
    }

    /// Makes the next wait longer; the first call makes it 10 s.
    pub(crate) fn lengthen(&mut self, event: Duration, now: Duration) {
        let delay = match self.entry {
            Some(entry) if !entry.is_idle(event) => (entry.delay * 2).min(LONGEST),
            _ => INITIAL,
        };
        self.entry = Some(Entry { delay, updated: now });
    }

    /// Returns the current wait, for the text of `CrashLoopBackOff`.
    pub(crate) fn delay(&self) -> Duration {
        self.entry.map_or(Duration::ZERO, |e| e.delay)
    }
}

/// Returns a duration as Go prints it: `350ms`, `10s`, `2m40s`, `5m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn waits_double_from_10_to_300_seconds() {
        let mut backoff = Backoff::default();
        let mut now = secs(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            // The container ends at once each time.
            let end = backoff.until(now, now).unwrap_or(now);
            waits.push(end.saturating_sub(now).as_secs());
            backoff.lengthen(now, end);
            now = end;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_idle_minutes_start_over() {
        for (idle, wait) in [(600, Some(20)), (601, None)] {
            let mut backoff = Backoff::default();
            backoff.lengthen(secs(0), secs(0));
            backoff.lengthen(secs(10), secs(20));
            let finished = secs(20 + idle);
            assert_eq!(backoff.until(finished, finished), wait.map(|w| finished + secs(w)), "idle {idle}");
            backoff.lengthen(finished, finished);
            assert_eq!(backoff.delay(), secs(if wait.is_some() { 40 } else { 10 }), "idle {idle}");
        }
    }

    #[test]
    fn the_wait_is_measured_from_the_event() {
        let mut backoff = Backoff::default();
        backoff.lengthen(secs(0), secs(0));
        assert_eq!(backoff.until(secs(5), secs(14)), Some(secs(15)));
        assert_eq!(backoff.until(secs(5), secs(15)), None);
        assert_eq!(backoff.until_since_update(secs(9)), Some(secs(10)));
        assert_eq!(backoff.until_since_update(secs(10)), None);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (millis, text) in [
            (0, "0s"),
            (350, "350ms"),
            (1_234, "1.234s"),
            (10_000, "10s"),
            (62_500, "1m2.5s"),
            (160_000, "2m40s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
