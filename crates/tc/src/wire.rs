//! Structures that several messages share; `include/uapi/linux/pkt_sched.h` and `rtnetlink.h`.

use podrun_netlink::{Body, Malformed, Message, Reply};

use crate::handle::Handle;
use crate::psched::Psched;
use crate::units::{Bytes, Rate};

/// `TCA_KIND`
pub(crate) const KIND: u16 = 1;
/// `TCA_OPTIONS`
pub(crate) const OPTIONS: u16 = 2;
/// `TCA_STATS2`
pub(crate) const STATS2: u16 = 7;

/// How many entries a rate table has.
const TABLE: u32 = 256;
/// The packet size at which a table ends if nobody says otherwise, as in iproute2.
pub(crate) const TABLE_MTU: u32 = 2047;
/// `TC_LINKLAYER_ETHERNET`
const ETHERNET: u8 = 1;

/// `struct tcmsg`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcmsg {
    pub(crate) link: u32,
    pub(crate) handle: Handle,
    pub(crate) parent: Handle,
    pub(crate) info: u32,
}

impl Tcmsg {
    pub(crate) fn message(&self, kind: u16, flags: i32) -> Message {
        let mut bytes = [0; 20];
        bytes[4..8].copy_from_slice(&self.link.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.handle.raw().to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.parent.raw().to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.info.to_ne_bytes());
        Message::new(kind, flags, &bytes)
    }

    pub(crate) fn read<'a>(reply: &Reply<'a>) -> Result<(Self, &'a [u8]), Malformed> {
        let (structure, rest) = reply.split::<20>("struct tcmsg")?;
        let word = |at| word(structure, at);
        let tcmsg = Self {
            link: word(4),
            handle: Handle::from_raw(word(8)),
            parent: Handle::from_raw(word(12)),
            info: word(16),
        };
        Ok((tcmsg, rest))
    }
}

/// Returns the four bytes at an offset, 0 beyond the end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    found.copied().map_or(0, u32::from_ne_bytes)
}

/// `struct tc_ratespec`
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateSpec {
    cell_log: u8,
    rate: Rate,
}

impl RateSpec {
    pub(crate) const SIZE: usize = 12;

    /// Returns the specification that belongs to a table for packets up to `mtu` bytes.
    pub(crate) fn new(rate: Rate, mtu: u32) -> Self {
        let mut cell_log = 0;
        while mtu >> cell_log > TABLE - 1 {
            cell_log += 1;
        }
        Self { cell_log, rate }
    }

    pub(crate) fn bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = self.cell_log;
        bytes[1] = ETHERNET;
        // cell_align, of which iproute2 says -1 and the kernel nothing.
        bytes[4..6].copy_from_slice(&(-1i16).to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.rate.in_32_bits().to_ne_bytes());
        bytes
    }

    /// Writes the table of how many ticks packets take, which kernels before 3.8 reckon with.
    pub(crate) fn write_table(self, psched: Psched, kind: u16, body: &mut Body) {
        let ticks =
            (1..=TABLE).map(|cell| psched.ticks(Bytes::new(u64::from(cell) << self.cell_log), self.rate));
        let table: Vec<u8> = ticks.flat_map(u32::to_ne_bytes).collect();
        body.bytes(kind, &table);
    }
}

/// Reads the rate of a `struct tc_ratespec` at an offset; an attribute of 64 bits overrides it.
pub(crate) fn read_rate(structure: &[u8], at: usize, wide: Option<u64>) -> Rate {
    Rate::from_bytes_per_second(wide.unwrap_or_else(|| word(structure, at + 8).into()))
}
