//! Fair queues with controlled delay.

use std::time::Duration;

use podrun_netlink::{Attributes, Body, Malformed};

use crate::difference::{Comparison, Difference, Field};
use crate::units::Bytes;
use crate::wire::OPTIONS;

// enum in include/uapi/linux/pkt_sched.h
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_FQ_CODEL_INTERVAL: u16 = 3;
const TCA_FQ_CODEL_ECN: u16 = 4;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_QUANTUM: u16 = 6;
const TCA_FQ_CODEL_CE_THRESHOLD: u16 = 7;
const TCA_FQ_CODEL_DROP_BATCH_SIZE: u16 = 8;
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;

/// One queue per flow, served in turn, of which each drops packets once they wait too long. `None` is the kernel's default.
///
/// ```
/// use std::time::Duration;
/// use podrun_tc::FqCodel;
/// let leaf = FqCodel::new().target(Duration::from_millis(5)).ecn(true);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FqCodel {
    /// How many packets may wait; 10240 by default.
    pub limit: Option<u32>,
    /// How many queues there are; 1024 by default. Cannot be changed later.
    pub flows: Option<u32>,
    /// How many bytes a queue sends at its turn; the MTU by default.
    pub quantum: Option<u32>,
    /// The delay that a packet may have for longer than `interval` before one is dropped; 5 ms by default.
    pub target: Option<Duration>,
    /// The time of a round trip in the worst case; 100 ms by default.
    pub interval: Option<Duration>,
    /// Whether packets are marked instead of dropped where both ends can do with it; true by default.
    pub ecn: Option<bool>,
    /// The delay above which every packet is marked.
    pub mark_threshold: Option<Duration>,
    /// How many packets are dropped at once when there is no room.
    pub drop_batch: Option<u32>,
    /// The room in memory; 32 MiB by default.
    pub memory_limit: Option<Bytes>,
}

impl FqCodel {
    /// Returns one with the kernel's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many packets may wait.
    #[must_use]
    pub fn limit(self, packets: u32) -> Self {
        Self { limit: Some(packets), ..self }
    }

    /// Sets how many queues there are.
    #[must_use]
    pub fn flows(self, flows: u32) -> Self {
        Self { flows: Some(flows), ..self }
    }

    /// Sets how many bytes a queue sends at its turn.
    #[must_use]
    pub fn quantum(self, bytes: u32) -> Self {
        Self { quantum: Some(bytes), ..self }
    }

    /// Sets the delay that is aimed at.
    #[must_use]
    pub fn target(self, target: Duration) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Sets the time of a round trip in the worst case.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Sets whether packets are marked instead of dropped.
    #[must_use]
    pub fn ecn(self, on: bool) -> Self {
        Self { ecn: Some(on), ..self }
    }

    /// Sets the delay above which every packet is marked.
    #[must_use]
    pub fn mark_threshold(self, delay: Duration) -> Self {
        Self { mark_threshold: Some(delay), ..self }
    }

    /// Sets how many packets are dropped at once when there is no room.
    #[must_use]
    pub fn drop_batch(self, packets: u32) -> Self {
        Self { drop_batch: Some(packets), ..self }
    }

    /// Sets the room in memory.
    #[must_use]
    pub fn memory_limit(self, limit: Bytes) -> Self {
        Self { memory_limit: Some(limit), ..self }
    }

    pub(super) fn write(&self, body: &mut Body) {
        body.nest_unmarked(OPTIONS, |options| {
            let mut put = |kind, value: Option<u32>| {
                if let Some(value) = value {
                    options.u32(kind, value);
                }
            };
            put(TCA_FQ_CODEL_LIMIT, self.limit);
            put(TCA_FQ_CODEL_FLOWS, self.flows);
            put(TCA_FQ_CODEL_QUANTUM, self.quantum);
            put(TCA_FQ_CODEL_INTERVAL, self.interval.map(microseconds));
            put(TCA_FQ_CODEL_TARGET, self.target.map(microseconds));
            put(TCA_FQ_CODEL_ECN, self.ecn.map(u32::from));
            put(TCA_FQ_CODEL_CE_THRESHOLD, self.mark_threshold.map(microseconds));
            put(TCA_FQ_CODEL_MEMORY_LIMIT, self.memory_limit.map(Bytes::in_32_bits));
            put(TCA_FQ_CODEL_DROP_BATCH_SIZE, self.drop_batch);
        });
    }

    pub(super) fn read(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for attribute in attributes {
            let attribute = attribute?;
            let time = || Ok(Some(Duration::from_micros(attribute.u32()?.into())));
            match attribute.kind() {
                TCA_FQ_CODEL_LIMIT => found.limit = Some(attribute.u32()?),
                TCA_FQ_CODEL_FLOWS => found.flows = Some(attribute.u32()?),
                TCA_FQ_CODEL_QUANTUM => found.quantum = Some(attribute.u32()?),
                TCA_FQ_CODEL_INTERVAL => found.interval = time()?,
                TCA_FQ_CODEL_TARGET => found.target = time()?,
                TCA_FQ_CODEL_ECN => found.ecn = Some(attribute.u32()? != 0),
                TCA_FQ_CODEL_CE_THRESHOLD => found.mark_threshold = time()?,
                TCA_FQ_CODEL_MEMORY_LIMIT => found.memory_limit = Some(Bytes::new(attribute.u32()?.into())),
                TCA_FQ_CODEL_DROP_BATCH_SIZE => found.drop_batch = Some(attribute.u32()?),
                _ => {}
            }
        }
        Ok(found)
    }

    pub(super) fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut comparison = Comparison::default();
        comparison
            .if_wanted(Field::Limit, self.limit, found.limit)
            .if_wanted(Field::Flows, self.flows, found.flows)
            .if_wanted(Field::Quantum, self.quantum, found.quantum)
            .if_wanted(Field::Ecn, self.ecn, found.ecn)
            .if_wanted(Field::MemoryLimit, self.memory_limit, found.memory_limit);
        for (field, wanted, found) in [
            (Field::Target, self.target, found.target),
            (Field::Interval, self.interval, found.interval),
            (Field::MarkThreshold, self.mark_threshold, found.mark_threshold),
        ] {
            let Some(wanted) = wanted else { continue };
            // The kernel counts in units of 1024 ns.
            let agree = found.is_some_and(|found| wanted.abs_diff(found) <= Duration::from_micros(2));
            let found = found.map_or("nothing".to_owned(), |found| format!("{found:?}"));
            comparison.agree(field, agree, format!("{wanted:?}"), found);
        }
        comparison.finish()
    }
}

fn microseconds(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
