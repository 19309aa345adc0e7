//! Counters of links.

use crate::error::Malformed;

/// Counters since the link was created (`struct rtnl_link_stats64`), from the link's own view: for the host's end of a
/// veth, `rx` is what the peer sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStatistics {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Bad packets that came in.
    pub rx_errors: u64,
    /// Packets that could not go out.
    pub tx_errors: u64,
    /// Packets dropped on the way in.
    pub rx_dropped: u64,
    /// Packets dropped on the way out, by the link itself and not by its queueing discipline.
    pub tx_dropped: u64,
    /// Multicast packets that came in.
    pub multicast: u64,
}

impl LinkStatistics {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let counters = bytes.first_chunk::<72>();
        let counters =
            counters.ok_or(Malformed { what: "link statistics", found: bytes.len(), expected: 72 })?;
        let mut words = counters.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_ne_bytes(bytes)
        });
        let mut next = || words.next().expect("nine words were asked for");
        Ok(Self {
            rx_packets: next(),
            tx_packets: next(),
            rx_bytes: next(),
            tx_bytes: next(),
            rx_errors: next(),
            tx_errors: next(),
            rx_dropped: next(),
            tx_dropped: next(),
            multicast: next(),
        })
    }
}
