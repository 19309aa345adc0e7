//! Counters.

use podrun_netlink::{Attributes, Malformed};

use crate::units::Bytes;

// enum in include/uapi/linux/gen_stats.h
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// What a queueing discipline, a class or an action has seen since it was made. A change in place keeps the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// What went through.
    pub bytes: Bytes,
    /// How many packets went through; one to be segmented counts as its segments.
    pub packets: u64,
    /// How many were dropped. A drop further below counts above too.
    pub drops: u64,
    /// How often a packet had to wait for the rate.
    pub overlimits: u64,
    /// How often the link took a packet back.
    pub requeues: u64,
    /// What waits.
    pub backlog: Bytes,
    /// How many packets wait.
    pub queue_length: u32,
}

impl Statistics {
    pub(crate) fn read(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                // struct gnet_stats_basic: u64 bytes, u32 packets
                TCA_STATS_BASIC => {
                    found.bytes = Bytes::new(attribute.u64()?);
                    let words: [u8; 12] = attribute.array()?;
                    found.packets = found.packets.max(crate::wire::word(&words, 8).into());
                }
                TCA_STATS_PKT64 => found.packets = attribute.u64()?,
                // struct gnet_stats_queue: u32 qlen, backlog, drops, requeues, overlimits
                TCA_STATS_QUEUE => {
                    let words: [u8; 20] = attribute.array()?;
                    let word = |at| crate::wire::word(&words, at);
                    found.queue_length = word(0);
                    found.backlog = Bytes::new(word(4).into());
                    found.drops = word(8).into();
                    found.requeues = word(12).into();
                    found.overlimits = word(16).into();
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use podrun_netlink::{Body, attributes};

    use super::*;

    #[test]
    fn counters_have_their_places() {
        let mut basic = 3_000_000_000_000u64.to_ne_bytes().to_vec();
        basic.extend_from_slice(&7u32.to_ne_bytes());
        let queue: Vec<u8> = [1u32, 2, 3, 4, 5].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut body = Body::new();
        body.bytes(TCA_STATS_BASIC, &basic).bytes(TCA_STATS_QUEUE, &queue);
        let expected = Statistics {
            bytes: Bytes::new(3_000_000_000_000),
            packets: 7,
            queue_length: 1,
            backlog: Bytes::new(2),
            drops: 3,
            requeues: 4,
            overlimits: 5,
        };
        assert_eq!(Statistics::read(attributes(body.as_bytes())), Ok(expected));
        body.u64(TCA_STATS_PKT64, 5_000_000_000);
        assert_eq!(Statistics::read(attributes(body.as_bytes())).unwrap().packets, 5_000_000_000);
    }
}
