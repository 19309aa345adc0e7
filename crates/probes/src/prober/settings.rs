//! What a manifest says about a probe.

use std::time::Duration;

use crate::Kind;

/// The shortest period. Kubernetes has whole seconds; below this the rounding of timers shows.
pub const MIN_PERIOD: Duration = Duration::from_millis(10);

/// When a probe is made and how often it must say the same. The defaults are those of the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What the probe is for.
    pub kind: Kind,
    /// `initialDelaySeconds`: no probe before the container has run for as many whole seconds.
    pub initial_delay: Duration,
    /// `periodSeconds`, or less than a second. At least [`MIN_PERIOD`].
    pub period: Duration,
    /// `timeoutSeconds`, for whoever makes the probe: the state machine does not look at it.
    pub timeout: Duration,
    /// `successThreshold`: how many successes in a row make a success. 0 counts as 1.
    pub success_threshold: u32,
    /// `failureThreshold`: how many failures in a row make a failure. 0 counts as 1.
    pub failure_threshold: u32,
}

impl Settings {
    /// Returns the defaults: no delay, every 10 seconds, timeout 1 second, one success, three failures.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    pub(crate) fn effective_period(&self) -> Duration {
        self.period.max(MIN_PERIOD)
    }
}

/// Returns how long a new [`Prober`](crate::Prober) waits before its first probe, so that the probes of many containers
/// do not all come at once after their supervisor was restarted.
///
/// As in the kubelet that is a random part of the period, and nothing once the program has run for a period. `random` is
/// a number from 0 up to 1.
pub fn start_jitter(period: Duration, program_age: Duration, random: f64) -> Duration {
    if period > program_age { period.mul_f64(random.clamp(0.0, 1.0)) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_part_of_a_period_and_only_after_a_restart() {
        let second = Duration::from_secs(1);
        for (age, random, expected) in [
            (Duration::ZERO, 0.0, Duration::ZERO),
            (Duration::ZERO, 0.5, second * 5),
            (second * 9, 0.99, Duration::from_millis(9_900)),
            (second * 10, 0.5, Duration::ZERO),
            (second * 11, 0.5, Duration::ZERO),
        ] {
            assert_eq!(start_jitter(second * 10, age, random), expected, "{age:?} {random}");
        }
    }
}
