//! A bad network, for tests.

use std::time::Duration;

use podrun_netlink::{Body, Malformed, attributes};

use super::words;
use crate::difference::{Comparison, Difference, Field};
use crate::psched::Psched;
use crate::units::Rate;
use crate::wire::{OPTIONS, word};

// enum in include/uapi/linux/pkt_sched.h
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;

/// `struct tc_netem_qopt`
const SIZE: usize = 24;

/// Delays, loses and doubles packets.
///
/// ```
/// use std::time::Duration;
/// use podrun_tc::Netem;
/// let across_the_sea = Netem::new().delay(Duration::from_millis(40)).jitter(Duration::from_millis(2)).loss(0.001);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Netem {
    /// How many packets may be on their way.
    pub limit: u32,
    /// The delay.
    pub delay: Duration,
    /// By how much the delay varies.
    pub jitter: Duration,
    /// The share of packets lost, from 0 to 1.
    pub loss: f64,
    /// The share of packets doubled, from 0 to 1.
    pub duplicate: f64,
    /// The rate.
    pub rate: Option<Rate>,
}

impl Default for Netem {
    fn default() -> Self {
        Self {
            limit: 1000,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            rate: None,
        }
    }
}

impl Netem {
    /// Returns a perfect network of at most 1000 packets on their way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many packets may be on their way.
    #[must_use]
    pub fn limit(self, packets: u32) -> Self {
        Self { limit: packets, ..self }
    }

    /// Sets the delay.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sets by how much the delay varies.
    #[must_use]
    pub fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }

    /// Sets the share of packets lost, from 0 to 1.
    #[must_use]
    pub fn loss(self, share: f64) -> Self {
        Self { loss: share, ..self }
    }

    /// Sets the share of packets doubled, from 0 to 1.
    #[must_use]
    pub fn duplicate(self, share: f64) -> Self {
        Self { duplicate: share, ..self }
    }

    /// Sets the rate.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }

    pub(super) fn write(&self, psched: Psched, body: &mut Body) {
        body.nest_unmarked(OPTIONS, |options| {
            options.raw(&words([
                psched.ticks_of(self.delay),
                self.limit,
                scaled(self.loss),
                0,
                scaled(self.duplicate),
                psched.ticks_of(self.jitter),
            ]));
            if let Some(rate) = self.rate {
                if rate.needs_64_bits() {
                    options.u64(TCA_NETEM_RATE64, rate.bytes_per_second());
                }
                // struct tc_netem_rate: the overheads are zero
                options.bytes(TCA_NETEM_RATE, &words([rate.in_32_bits(), 0, 0, 0]));
            }
        });
    }

    pub(super) fn read(payload: &[u8], psched: Psched) -> Result<Self, Malformed> {
        let (structure, rest) = payload.split_first_chunk::<SIZE>().ok_or(Malformed {
            what: "struct tc_netem_qopt",
            found: payload.len(),
            expected: SIZE,
        })?;
        let word = |at| word(structure, at);
        let mut found = Self {
            delay: psched.time_of(word(0)),
            limit: word(4),
            loss: share(word(8)),
            duplicate: share(word(16)),
            jitter: psched.time_of(word(20)),
            rate: None,
        };
        let (mut narrow, mut wide) = (None, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_NETEM_RATE => narrow = Some(u64::from(attribute.u32()?)),
                TCA_NETEM_RATE64 => wide = Some(attribute.u64()?),
                TCA_NETEM_LATENCY64 => found.delay = Duration::from_nanos(attribute.u64()?),
                TCA_NETEM_JITTER64 => found.jitter = Duration::from_nanos(attribute.u64()?),
                _ => {}
            }
        }
        found.rate = wide.or(narrow).filter(|rate| *rate > 0).map(Rate::from_bytes_per_second);
        Ok(found)
    }

    pub(super) fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut comparison = Comparison::default();
        comparison.equal(Field::Limit, self.limit, found.limit);
        for (field, wanted, found) in
            [(Field::Delay, self.delay, found.delay), (Field::Jitter, self.jitter, found.jitter)]
        {
            let agree = wanted.abs_diff(found) <= Duration::from_micros(1);
            comparison.agree(field, agree, format!("{wanted:?}"), format!("{found:?}"));
        }
        for (field, wanted, found) in
            [(Field::Loss, self.loss, found.loss), (Field::Duplicate, self.duplicate, found.duplicate)]
        {
            comparison.agree(field, (wanted - found).abs() < 1e-6, wanted, found);
        }
        let whole = self.rate.map(|rate| Rate::from_bytes_per_second(rate.bytes_per_second()));
        comparison.if_wanted(Field::Rate, whole, found.rate).finish()
    }
}

/// Returns a share as the kernel has it, from 0 to `u32::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and saturates at both ends"
)]
fn scaled(share: f64) -> u32 {
    (share * f64::from(u32::MAX)).round_ties_even() as u32
}

fn share(scaled: u32) -> f64 {
    f64::from(scaled) / f64::from(u32::MAX)
}
