//! The cpu controller.

use std::fmt;
use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::error::{ParseError, Result};
use crate::pressure::{Pressure, PressureResource};
use crate::value::{Micros, Switch, flat_keyed, number};

/// The part of the CPU time a cgroup gets when there is not enough for it and its siblings: 1 to 10000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuWeight(u16);

impl CpuWeight {
    /// The smallest weight.
    pub const MIN: Self = Self(1);
    /// The weight of a new cgroup.
    pub const DEFAULT: Self = Self(100);
    /// The largest weight.
    pub const MAX: Self = Self(10_000);

    /// Returns the weight, or nothing if it is not from 1 to 10000.
    pub const fn new(weight: u64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        if weight >= 1 && weight <= 10_000 { Some(Self(weight as u16)) } else { None }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CpuWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CpuWeight {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a weight from 1 to 10000";
        Self::new(number(text, EXPECTED)?).ok_or_else(|| ParseError::new(EXPECTED, text))
    }
}

/// How much CPU time a cgroup may use per period.
///
/// ```
/// use podrun_cgroups::{CpuMax, Micros};
///
/// let half_a_cpu = CpuMax { quota: Some(Micros(50_000)), period: CpuMax::DEFAULT_PERIOD };
/// assert_eq!(half_a_cpu.to_string(), "50000 100000");
/// assert_eq!("max 100000".parse(), Ok(CpuMax::UNLIMITED));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuMax {
    /// The time of all CPUs together; nothing for no limit. At least 1 ms.
    pub quota: Option<Micros>,
    /// The period, from 1 ms to 1 s.
    pub period: Micros,
}

impl CpuMax {
    /// The period of a new cgroup: 100 ms.
    pub const DEFAULT_PERIOD: Micros = Micros(100_000);
    /// No limit.
    pub const UNLIMITED: Self = Self { quota: None, period: Self::DEFAULT_PERIOD };
}

impl fmt::Display for CpuMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quota {
            Some(quota) => write!(f, "{quota} {}", self.period),
            None => write!(f, "max {}", self.period),
        }
    }
}

impl FromStr for CpuMax {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (quota, period) = text
            .trim()
            .split_once(' ')
            .ok_or_else(|| ParseError::new("a quota or \"max\", and a period", text))?;
        let quota = if quota == "max" { None } else { Some(quota.parse()?) };
        Ok(Self { quota, period: period.parse()? })
    }
}

/// The content of `cpu.stat`. The times are there without the controller, the rest is zero then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CpuStat {
    /// CPU time used.
    pub usage: Micros,
    /// Of it, in user mode.
    pub user: Micros,
    /// Of it, in the kernel.
    pub system: Micros,
    /// Periods of `cpu.max` in which the cgroup wanted to run.
    pub periods: u64,
    /// Of them, those in which it was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled, summed over CPUs.
    pub throttled: Micros,
    /// Periods in which it used more than its quota thanks to `cpu.max.burst`.
    pub bursts: u64,
    /// Time used that way.
    pub burst: Micros,
}

impl FromStr for CpuStat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut stat = Self::default();
        flat_keyed(text, |key, value| {
            match key {
                "usage_usec" => stat.usage = Micros(value),
                "user_usec" => stat.user = Micros(value),
                "system_usec" => stat.system = Micros(value),
                "nr_periods" => stat.periods = value,
                "nr_throttled" => stat.throttled_periods = value,
                "throttled_usec" => stat.throttled = Micros(value),
                "nr_bursts" => stat.bursts = value,
                "burst_usec" => stat.burst = Micros(value),
                _ => {}
            }
            Ok(())
        })?;
        Ok(stat)
    }
}

/// The cpu files of one cgroup, from [`Cgroup::cpu`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller, except for [`Cpu::stat`] and
/// [`Cpu::pressure`].
#[derive(Debug, Clone, Copy)]
pub struct Cpu<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the cpu controller.
    pub fn cpu(&self) -> Cpu<'_> {
        Cpu(self)
    }
}

impl Cpu<'_> {
    /// Reads `cpu.weight`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`]. An idle cgroup has weight 0, which is [`crate::Error::Parse`].
    pub fn weight(&self) -> Result<CpuWeight> {
        self.0.read_as("cpu.weight")
    }

    /// Reads `cpu.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max(&self) -> Result<CpuMax> {
        self.0.read_as("cpu.max")
    }

    /// Reads `cpu.max.burst`: how much unused quota may be saved for later.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max_burst(&self) -> Result<Micros> {
        self.0.read_as("cpu.max.burst")
    }

    /// Reads `cpu.idle`: whether the cgroup runs only when nothing else does.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn idle(&self) -> Result<bool> {
        self.0.read_as::<Switch>("cpu.idle").map(|switch| switch.0)
    }

    /// Reads `cpu.stat`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn stat(&self) -> Result<CpuStat> {
        self.0.read_as("cpu.stat")
    }

    /// Reads `cpu.pressure`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::pressure`].
    pub fn pressure(&self) -> Result<Pressure> {
        self.0.pressure(PressureResource::Cpu)
    }

    /// Writes `cpu.weight`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EINVAL` in an idle cgroup.
    pub fn set_weight(&self, weight: CpuWeight) -> Result<()> {
        self.0.write("cpu.weight", &weight.to_string())
    }

    /// Writes `cpu.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EINVAL` if quota or period are out of range, or the quota is below `cpu.max.burst`.
    pub fn set_max(&self, max: CpuMax) -> Result<()> {
        self.0.write("cpu.max", &max.to_string())
    }

    /// Writes `cpu.max.burst`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `EINVAL` if it is more than the quota.
    pub fn set_max_burst(&self, burst: Micros) -> Result<()> {
        self.0.write("cpu.max.burst", &burst.to_string())
    }

    /// Writes `cpu.idle`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_idle(&self, idle: bool) -> Result<()> {
        self.0.write("cpu.idle", &Switch(idle).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    #[test]
    fn cpu_max_round_trips() {
        for text in ["max 100000", "50000 100000", "1000 1000"] {
            assert_eq!(text.parse::<CpuMax>().unwrap().to_string(), text);
        }
        for text in ["", "max", "50000", "x 100000", "50000 max", "-1 100000", "1 2 3"] {
            assert!(text.parse::<CpuMax>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn weight_has_a_range() {
        for (text, valid) in [("0", false), ("1", true), ("10000", true), ("10001", false), ("x", false)] {
            assert_eq!(text.parse::<CpuWeight>().is_ok(), valid, "{text}");
        }
    }

    // `cat cpu.stat` with the controller (Linux 6.1), shortened.
    const STAT: &str = "\
usage_usec 300
user_usec 200
system_usec 100
core_sched.force_idle_usec 0
nr_periods 7
nr_throttled 3
throttled_usec 9000
nr_bursts 1
burst_usec 50
";

    #[test]
    fn stat_reads_what_it_knows() {
        let stat: CpuStat = STAT.parse().unwrap();
        let expected = CpuStat {
            usage: Micros(300),
            user: Micros(200),
            system: Micros(100),
            periods: 7,
            throttled_periods: 3,
            throttled: Micros(9000),
            bursts: 1,
            burst: Micros(50),
        };
        assert_eq!(stat, expected);
        assert!("usage_usec many\n".parse::<CpuStat>().is_err());
    }

    #[test]
    fn every_file_is_read_and_written() {
        let stand_in = StandIn::new(&[
            ("cpu.weight", "100\n"),
            ("cpu.max", "max 100000\n"),
            ("cpu.max.burst", "0\n"),
            ("cpu.idle", "0\n"),
            ("cpu.stat", STAT),
            ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
        ]);
        let cpu = stand_in.cgroup.cpu();
        assert_eq!(cpu.weight().unwrap(), CpuWeight::DEFAULT);
        assert_eq!(cpu.max().unwrap(), CpuMax::UNLIMITED);
        assert_eq!(cpu.max_burst().unwrap(), Micros(0));
        assert!(!cpu.idle().unwrap());
        assert_eq!(cpu.stat().unwrap().periods, 7);
        assert_eq!(cpu.pressure().unwrap().some.total, Micros(3));
        cpu.set_weight(CpuWeight::MAX).unwrap();
        cpu.set_max(CpuMax { quota: Some(Micros(5)), period: Micros(6) }).unwrap();
        cpu.set_max_burst(Micros(4)).unwrap();
        cpu.set_idle(true).unwrap();
        assert_eq!(stand_in.content("cpu.weight"), "10000");
        assert_eq!(stand_in.content("cpu.max"), "5 6");
        assert_eq!(stand_in.content("cpu.max.burst"), "4");
        assert_eq!(stand_in.content("cpu.idle"), "1");
    }

    #[test]
    fn every_missing_file_is_an_error() {
        let stand_in = StandIn::new(&[]);
        let cpu = stand_in.cgroup.cpu();
        assert!(cpu.weight().is_err() && cpu.set_weight(CpuWeight::MIN).is_err());
        assert!(cpu.max().is_err() && cpu.set_max(CpuMax::UNLIMITED).is_err());
        assert!(cpu.max_burst().is_err() && cpu.set_max_burst(Micros(1)).is_err());
        assert!(cpu.idle().is_err() && cpu.set_idle(true).is_err());
        assert!(cpu.stat().is_err() && cpu.pressure().is_err());
    }
}
