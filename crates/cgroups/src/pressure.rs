//! Pressure stall information: how much work waits for a resource.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::PollFlags;

use crate::cgroup::Cgroup;
use crate::error::{Error, ParseError, Result};
use crate::events::wait_for_priority;
use crate::value::{Micros, number};

/// A resource whose pressure the kernel measures. It does so without the resource's controller, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PressureResource {
    /// `cpu.pressure`
    Cpu,
    /// `memory.pressure`
    Memory,
    /// `io.pressure`
    Io,
}

impl PressureResource {
    /// Returns the name of the file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
        }
    }
}

/// Whose waiting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PressureKind {
    /// At least one task waits.
    Some,
    /// All tasks wait at the same time, so nothing is done.
    Full,
}

impl fmt::Display for PressureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some",
            Self::Full => "full",
        })
    }
}

/// A share of time in hundredths of a percent, as exact as the kernel prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(pub u32);

impl Share {
    /// Returns the share in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Share {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "a percentage with two decimals";
        let wrong = || ParseError::new(EXPECTED, text);
        let (whole, hundredths) =
            text.split_once('.').filter(|(_, part)| part.len() == 2).ok_or_else(wrong)?;
        let share = number(whole, EXPECTED)?
            .checked_mul(100)
            .and_then(|share| share.checked_add(number(hundredths, EXPECTED).ok()?))
            .ok_or_else(wrong)?;
        u32::try_from(share).map(Self).map_err(|_| wrong())
    }
}

/// One line of a pressure file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PressureLine {
    /// Share of the last ten seconds.
    pub avg10: Share,
    /// Share of the last minute.
    pub avg60: Share,
    /// Share of the last five minutes.
    pub avg300: Share,
    /// Time lost since the cgroup was created.
    pub total: Micros,
}

/// The content of a pressure file, see
/// [psi](https://docs.kernel.org/accounting/psi.html).
///
/// ```
/// let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=43210\n\
///             full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
/// let pressure: podrun_cgroups::Pressure = text.parse().unwrap();
/// assert_eq!(pressure.some.avg10.percent(), 1.5);
/// assert_eq!(pressure.to_string(), text);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// At least one task waited.
    pub some: PressureLine,
    /// All tasks waited. Kernels before 5.13 do not measure it for the CPU.
    pub full: Option<PressureLine>,
}

impl FromStr for Pressure {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut some = None;
        let mut full = None;
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("some", fields)) => some = Some(parse_line(fields)?),
                Some(("full", fields)) => full = Some(parse_line(fields)?),
                _ => return Err(ParseError::new("a line of some or full pressure", line)),
            }
        }
        let some = some.ok_or_else(|| ParseError::new("a line of some pressure", text))?;
        Ok(Self { some, full })
    }
}

fn parse_line(fields: &str) -> Result<PressureLine, ParseError> {
    let wrong = || ParseError::new("avg10= avg60= avg300= total=", fields);
    let mut line = PressureLine::default();
    let mut seen = 0;
    for field in fields.split(' ') {
        let (key, value) = field.split_once('=').ok_or_else(wrong)?;
        match key {
            "avg10" => line.avg10 = value.parse()?,
            "avg60" => line.avg60 = value.parse()?,
            "avg300" => line.avg300 = value.parse()?,
            "total" => line.total = value.parse()?,
            _ => continue,
        }
        seen += 1;
    }
    if seen == 4 { Ok(line) } else { Err(wrong()) }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [(PressureKind::Some, Some(self.some)), (PressureKind::Full, self.full)];
        for (kind, line) in lines {
            let Some(PressureLine { avg10, avg60, avg300, total }) = line else { continue };
            writeln!(f, "{kind} avg10={avg10} avg60={avg60} avg300={avg300} total={total}")?;
        }
        Ok(())
    }
}

/// When a [`PressureTrigger`] fires: as soon as tasks have waited for `stall` within any `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PressureThreshold {
    /// Whose waiting counts.
    pub kind: PressureKind,
    /// How much waiting is too much.
    pub stall: Micros,
    /// Within which time: from 500 ms to 10 s, and a multiple of 2 s without `CAP_SYS_RESOURCE`.
    pub window: Micros,
}

impl fmt::Display for PressureThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.stall, self.window)
    }
}

impl FromStr for PressureThreshold {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new("some|full STALL WINDOW", text);
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [kind, stall, window] = fields[..] else { return Err(wrong()) };
        let kind = match kind {
            "some" => PressureKind::Some,
            "full" => PressureKind::Full,
            _ => return Err(wrong()),
        };
        Ok(Self { kind, stall: stall.parse()?, window: window.parse()? })
    }
}

/// A registered trigger: its fd becomes ready for `POLLPRI` when the threshold is crossed, at most once per window.
///
/// The trigger lives as long as this value.
#[derive(Debug)]
pub struct PressureTrigger {
    file: File,
    path: PathBuf,
}

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PressureTrigger {
    /// Returns the path of the pressure file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the trigger fires; returns whether it did before `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::Poll`], with `ENODEV` if the cgroup was removed.
    pub fn wait(&self, deadline: Instant) -> Result<bool> {
        let failed = |source| Error::Poll { path: self.path.clone(), source };
        let flags = wait_for_priority(self.file.as_fd(), deadline).map_err(failed)?;
        // The kernel sets POLLERR beside POLLPRI when it fires no more.
        if flags.contains(PollFlags::POLLERR) {
            return Err(failed(std::io::Error::from_raw_os_error(libc::ENODEV)));
        }
        Ok(flags.contains(PollFlags::POLLPRI))
    }
}

impl Cgroup {
    /// Returns the pressure on `resource` in the cgroup and its descendants.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: `ENOENT` if the kernel has no pressure information, `EOPNOTSUPP` if it is switched off.
    pub fn pressure(&self, resource: PressureResource) -> Result<Pressure> {
        self.read_as(resource.file())
    }

    /// Registers a trigger for pressure on `resource`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`]: `EINVAL` if the kernel does not accept the window (see [`PressureThreshold`]), `EBUSY`.
    pub fn pressure_trigger(
        &self,
        resource: PressureResource,
        threshold: PressureThreshold,
    ) -> Result<PressureTrigger> {
        let name = resource.file();
        let value = threshold.to_string();
        let path = self.path().join(name);
        match self
            .open_file(name, OFlag::O_RDWR | OFlag::O_NONBLOCK)
            .and_then(|mut file| file.write_all(value.as_bytes()).map(|()| file))
        {
            Ok(file) => Ok(PressureTrigger { file, path }),
            Err(source) => Err(Error::Write { value, path, source }),
        }
    }

    /// Returns whether pressure is measured for the cgroup.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: the file exists since Linux 6.1.
    #[doc(alias = "cgroup.pressure")]
    pub fn pressure_enabled(&self) -> Result<bool> {
        Ok(self.read_as::<crate::value::Switch>("cgroup.pressure")?.0)
    }
}

impl PressureThreshold {
    /// Returns a threshold of `stall` within `window`, both cut to whole microseconds.
    pub fn new(kind: PressureKind, stall: Duration, window: Duration) -> Self {
        let micros = |time: Duration| Micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        Self { kind, stall: micros(stall), window: micros(window) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    // `cat memory.pressure` (Linux 6.18).
    const TEXT: &str = "\
some avg10=12.34 avg60=5.00 avg300=0.07 total=987654
full avg10=0.00 avg60=0.00 avg300=0.00 total=1
";

    #[test]
    fn pressure_round_trips() {
        let pressure: Pressure = TEXT.parse().unwrap();
        assert_eq!(pressure.some.avg10, Share(1234));
        assert_eq!(pressure.some.avg300, Share(7));
        assert_eq!(pressure.full.unwrap().total, Micros(1));
        assert_eq!(pressure.to_string(), TEXT);
        let some = TEXT.lines().next().unwrap();
        assert_eq!(some.parse::<Pressure>().unwrap().full, None);
    }

    #[test]
    fn incomplete_pressure_is_an_error() {
        for text in [
            "",
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=0.00 avg60=0.00 total=1\n",
            "some avg10=0.0 avg60=0.00 avg300=0.00 total=1\n",
            "some avg10=x avg60=0.00 avg300=0.00 total=1\n",
            "much avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        ] {
            assert!(text.parse::<Pressure>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn thresholds_round_trip() {
        let threshold: PressureThreshold = "full 150000 2000000".parse().unwrap();
        let ms = Duration::from_millis;
        assert_eq!(threshold, PressureThreshold::new(PressureKind::Full, ms(150), ms(2000)));
        assert_eq!(threshold.to_string(), "full 150000 2000000");
        for text in ["", "some 1", "any 1 2", "some 1 2 3", "some x 2"] {
            assert!(text.parse::<PressureThreshold>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_and_writes_the_file_of_the_resource() {
        let stand_in =
            StandIn::new(&[("memory.pressure", TEXT), ("cgroup.pressure", "1\n"), ("io.pressure", "")]);
        assert_eq!(stand_in.cgroup.pressure(PressureResource::Memory).unwrap().to_string(), TEXT);
        assert!(stand_in.cgroup.pressure_enabled().unwrap());
        let threshold = "some 1000 2000000".parse().unwrap();
        let trigger = stand_in.cgroup.pressure_trigger(PressureResource::Io, threshold).unwrap();
        assert_eq!(stand_in.content("io.pressure"), "some 1000 2000000");
        assert!(!trigger.wait(Instant::now()).unwrap());
        assert!(stand_in.cgroup.pressure(PressureResource::Cpu).unwrap_err().is_gone());
        let error = stand_in.cgroup.pressure_trigger(PressureResource::Cpu, threshold).unwrap_err();
        assert!(error.to_string().starts_with("write \"some 1000 2000000\" to "), "{error}");
    }
}
