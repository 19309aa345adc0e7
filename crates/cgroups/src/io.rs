//! The io controller.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::cgroup::Cgroup;
use crate::cpu::CpuWeight;
use crate::error::{ParseError, Result};
use crate::pressure::{Pressure, PressureResource};
use crate::value::{CountLimit, Limit, number};

/// A block device by its number, as in `8:16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockDevice {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for BlockDevice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const EXPECTED: &str = "MAJOR:MINOR";
        let wrong = || ParseError::new(EXPECTED, text);
        let (major, minor) = text.split_once(':').ok_or_else(wrong)?;
        let part = |text| u32::try_from(number(text, EXPECTED)?).map_err(|_| wrong());
        Ok(Self { major: part(major)?, minor: part(minor)? })
    }
}

/// The weight of a cgroup's input and output against that of its siblings: the same scale as [`CpuWeight`].
pub type IoWeight = CpuWeight;

/// The content of `io.weight`: the weight for every device, and exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoWeights {
    /// The weight where no other is set.
    pub default: IoWeight,
    /// The weights of single devices.
    pub devices: BTreeMap<BlockDevice, IoWeight>,
}

impl fmt::Display for IoWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "default {}", self.default)?;
        self.devices.iter().try_for_each(|(device, weight)| writeln!(f, "{device} {weight}"))
    }
}

impl FromStr for IoWeights {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut default = None;
        let mut devices = BTreeMap::new();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("default", weight)) => default = Some(weight.parse()?),
                Some((device, weight)) => drop(devices.insert(device.parse()?, weight.parse()?)),
                None => return Err(ParseError::new("a device and a weight", line)),
            }
        }
        let default = default.ok_or_else(|| ParseError::new("a line \"default WEIGHT\"", text))?;
        Ok(Self { default, devices })
    }
}

/// The limits of one device, a line of `io.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IoMax {
    /// Bytes read per second.
    pub read_bytes: Limit,
    /// Bytes written per second.
    pub write_bytes: Limit,
    /// Reads per second.
    pub reads: CountLimit,
    /// Writes per second.
    pub writes: CountLimit,
}

impl IoMax {
    /// No limits.
    pub const UNLIMITED: Self = Self {
        read_bytes: Limit::Max,
        write_bytes: Limit::Max,
        reads: CountLimit::Max,
        writes: CountLimit::Max,
    };
}

impl fmt::Display for IoMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read_bytes, write_bytes, reads, writes } = self;
        write!(f, "rbps={read_bytes} wbps={write_bytes} riops={reads} wiops={writes}")
    }
}

impl FromStr for IoMax {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut max = Self::UNLIMITED;
        nested_keyed(text, |key, value| {
            match key {
                "rbps" => max.read_bytes = value.parse()?,
                "wbps" => max.write_bytes = value.parse()?,
                "riops" => max.reads = value.parse()?,
                "wiops" => max.writes = value.parse()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(max)
    }
}

/// What was read and written on one device, a line of `io.stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IoStat {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes discarded.
    pub discard_bytes: u64,
    /// Discards.
    pub discards: u64,
}

impl FromStr for IoStat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut stat = Self::default();
        nested_keyed(text, |key, value| {
            let field = match key {
                "rbytes" => &mut stat.read_bytes,
                "wbytes" => &mut stat.write_bytes,
                "rios" => &mut stat.reads,
                "wios" => &mut stat.writes,
                "dbytes" => &mut stat.discard_bytes,
                "dios" => &mut stat.discards,
                // Others come from single policies (`cost.usage`) and need not be numbers.
                _ => return Ok(()),
            };
            *field = number(value, "a number")?;
            Ok(())
        })?;
        Ok(stat)
    }
}

/// Lines of a device each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PerDevice<T>(BTreeMap<BlockDevice, T>);

impl<T: FromStr<Err = ParseError>> FromStr for PerDevice<T> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut devices = BTreeMap::new();
        for line in text.lines() {
            // The kernel prints a bare device number if there is nothing to say about it.
            let (device, fields) = line.split_once(' ').unwrap_or((line, ""));
            devices.insert(device.parse()?, fields.parse()?);
        }
        Ok(Self(devices))
    }
}

fn nested_keyed(
    text: &str,
    mut each: impl FnMut(&str, &str) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    text.split_ascii_whitespace().try_for_each(|field| {
        let (key, value) = field.split_once('=').ok_or_else(|| ParseError::new("KEY=VALUE", field))?;
        each(key, value)
    })
}

/// The io files of one cgroup, from [`Cgroup::io`].
///
/// Every method fails with [`crate::Error::ControllerMissing`] without the controller, except for [`Io::pressure`].
#[derive(Debug, Clone, Copy)]
pub struct Io<'a>(&'a Cgroup);

impl Cgroup {
    /// Returns the files of the io controller.
    pub fn io(&self) -> Io<'_> {
        Io(self)
    }
}

impl Io<'_> {
    /// Reads `io.weight`; nothing if the kernel was built without a policy that has weights.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn weight(&self) -> Result<Option<IoWeights>> {
        self.0.read_optional("io.weight")
    }

    /// Reads `io.max`: the devices that have limits.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn max(&self) -> Result<BTreeMap<BlockDevice, IoMax>> {
        self.0.read_as::<PerDevice<IoMax>>("io.max").map(|lines| lines.0)
    }

    /// Reads `io.stat`: the devices that were used.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::read_as`].
    pub fn stat(&self) -> Result<BTreeMap<BlockDevice, IoStat>> {
        self.0.read_as::<PerDevice<IoStat>>("io.stat").map(|lines| lines.0)
    }

    /// Reads `io.pressure`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::pressure`].
    pub fn pressure(&self) -> Result<Pressure> {
        self.0.pressure(PressureResource::Io)
    }

    /// Writes the weight for every device to `io.weight`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`].
    pub fn set_weight(&self, weight: IoWeight) -> Result<()> {
        self.0.write("io.weight", &format!("default {weight}"))
    }

    /// Writes the weight for one device to `io.weight`; nothing takes the exception back.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `ENODEV` if there is no such device.
    pub fn set_device_weight(&self, device: BlockDevice, weight: Option<IoWeight>) -> Result<()> {
        let weight = weight.map_or_else(|| "default".to_owned(), |weight| weight.to_string());
        self.0.write("io.weight", &format!("{device} {weight}"))
    }

    /// Writes the limits of one device to `io.max`.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::write`]; `ENODEV` if there is no such device, `EINVAL` if it is a partition.
    pub fn set_max(&self, device: BlockDevice, max: IoMax) -> Result<()> {
        self.0.write("io.max", &format!("{device} {max}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::StandIn;

    const SDB: BlockDevice = BlockDevice { major: 8, minor: 16 };

    #[test]
    fn weights_round_trip() {
        let text = "default 100\n8:16 200\n8:0 50\n";
        let weights: IoWeights = text.parse().unwrap();
        assert_eq!(weights.devices[&SDB], IoWeight::new(200).unwrap());
        assert_eq!(weights.to_string(), "default 100\n8:0 50\n8:16 200\n");
        for text in
            ["", "8:16 200\n", "default\n", "default 0\n", "default 100\n8 1\n", "default 100\nx:y 1\n"]
        {
            assert!(text.parse::<IoWeights>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn max_round_trips() {
        let text = "rbps=1048576 wbps=max riops=max wiops=120";
        let max: IoMax = text.parse().unwrap();
        assert_eq!((max.read_bytes, max.writes), (Limit::Bytes(1 << 20), CountLimit::Count(120)));
        assert_eq!(max.to_string(), text);
        assert!("rbps".parse::<IoMax>().is_err());
        assert!("rbps=-1".parse::<IoMax>().is_err());
    }

    #[test]
    fn every_file_is_read() {
        let stand_in = StandIn::new(&[
            ("io.weight", "default 100\n"),
            ("io.max", "8:16 rbps=1 wbps=2 riops=3 wiops=4\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=x\n8:0\n"),
            ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"),
        ]);
        let io = stand_in.cgroup.io();
        assert_eq!(io.weight().unwrap().unwrap().default, IoWeight::DEFAULT);
        assert_eq!(io.max().unwrap()[&SDB].write_bytes, Limit::Bytes(2));
        let stat = io.stat().unwrap();
        let expected =
            IoStat { read_bytes: 1, write_bytes: 2, reads: 3, writes: 4, discard_bytes: 5, discards: 6 };
        assert_eq!(stat[&SDB], expected);
        assert_eq!(stat[&BlockDevice { major: 8, minor: 0 }], IoStat::default());
        assert!(io.pressure().is_ok());
    }

    #[test]
    fn every_file_is_written() {
        let stand_in = StandIn::new(&[("io.weight", "default 100\n"), ("io.max", "")]);
        let io = stand_in.cgroup.io();
        io.set_weight(IoWeight::MIN).unwrap();
        assert_eq!(stand_in.content("io.weight"), "default 1");
        io.set_device_weight(SDB, IoWeight::new(7)).unwrap();
        assert_eq!(stand_in.content("io.weight"), "8:16 7");
        io.set_device_weight(SDB, None).unwrap();
        assert_eq!(stand_in.content("io.weight"), "8:16 default");
        io.set_max(SDB, IoMax { reads: CountLimit::Count(5), ..IoMax::UNLIMITED }).unwrap();
        assert_eq!(stand_in.content("io.max"), "8:16 rbps=max wbps=max riops=5 wiops=max");
    }

    #[test]
    fn missing_and_broken_files_are_errors() {
        let stand_in = StandIn::new(&[]);
        let io = stand_in.cgroup.io();
        assert_eq!(io.weight().unwrap(), None);
        assert!(io.max().is_err() && io.stat().is_err() && io.pressure().is_err());
        assert!(io.set_weight(IoWeight::MIN).is_err() && io.set_device_weight(SDB, None).is_err());
        assert!(io.set_max(SDB, IoMax::UNLIMITED).is_err());
        let stand_in = StandIn::new(&[("io.max", "8:16 rbps\n"), ("io.stat", "8:16 rbytes=x\n")]);
        assert!(stand_in.cgroup.io().max().is_err() && stand_in.cgroup.io().stat().is_err());
    }
}
